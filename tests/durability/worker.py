"""A program that does what it is told in projects, on one Spark, until it is killed.

It reads one JSON line for each piece of work and answers with one: how the work ended, or `done`.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from tests import projects
from tests.conftest import INTERPRETED


def work(folder: Path, verb: str, words: dict[str, Any], now: datetime) -> None:
    """One verb of the front door, at a time that is told: ids that are made later must sort later."""
    with projects.opened(folder, now=now) as p:
        match verb:
            case "ingest":
                failed = [report.failed for report in p.ingest("payments") if report.failed]
                if failed:
                    raise RuntimeError(failed[0])
            case "materialize":
                p.materialize("spend", **words)


def main(folder: str) -> None:
    """Do what is asked, line by line."""
    with projects.opened(Path(folder)) as p:
        for name, value in INTERPRETED.items():
            p._spark.conf.set(name, value)
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            asked, said = json.loads(line), "done"
            try:
                work(Path(asked["folder"]), asked["verb"], asked["words"], datetime.fromisoformat(asked["now"]))
            except Exception as error:  # noqa: BLE001  # it is what is asked
                said = f"{type(error).__name__}: {error}"
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
