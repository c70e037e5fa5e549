"""`headwater init`: a new project with one source, one group and one service, and a few payments of the last weeks."""

import random
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_definitions import settings
from feature_definitions.errors import UserError

NEXT = "headwater ingest && headwater materialize && headwater sync && headwater get customer_v1 customer_id=1"
_FILES = Path(__file__).parent / "starter_files"


class FolderRefused(UserError):
    """A folder in which no project can be made."""


def make(folder: Path, *, now: datetime | None = None) -> Path:
    """Make a project in a new or empty folder, named after it, with payments of the forty days before `now`."""
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderRefused(f"{folder} is not empty; name a new folder, nothing was changed")
    settings.check_lake(str(folder))
    name = re.sub(r"[^a-z0-9_]+", "_", folder.name.lower()).strip("_")
    name = name if re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) else f"project_{name}"[:63].strip("_")
    shutil.copytree(_FILES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__init__.py", "__pycache__"))
    written = folder / settings.FILE
    written.write_text(written.read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8")
    (folder / ".gitignore").write_text(".headwater/\nlake/\n", encoding="utf-8")
    data = folder / "data" / "payments"
    data.mkdir(parents=True, exist_ok=True)
    (data / "payments.csv").write_text(_payments(now or datetime.now(UTC)), encoding="utf-8")
    return folder


def _payments(now: datetime) -> str:
    chance = random.Random(7)
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=40)
    lines = ["payment_id,customer_id,amount,paid_at"]
    for number in range(200):
        at = start + timedelta(minutes=chance.randrange(40 * 24 * 60 - 180))
        lines.append(f"p{number},{chance.randint(1, 8)},{chance.randint(100, 20_000) / 100},{at:%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines) + "\n"
