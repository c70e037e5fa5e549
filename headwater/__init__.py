"""The front door for Python: `import headwater as hw; p = hw.open("my_project")`. The `headwater` command stands beside it.

Heavy parts (Spark, Great Expectations, Delta) are imported when something needs them, so that looking costs nothing.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from feature_definitions import settings
from feature_definitions.errors import InputRefused, NotCovered, Unknown, UserError
from headwater.errors import NotEmpty, RegistryLost
from headwater.project import Project, Say

__version__ = "0.1.0"

__all__ = ["InputRefused", "NotCovered", "NotEmpty", "Project", "RegistryLost", "Say", "Unknown", "UserError", "main", "open"]


def open(
    path: str | os.PathLike[str] = ".", *, say: Say = lambda _: None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> "Project":
    """The project in a folder; its definitions are loaded and checked. `say` is told what long work is doing.

    Raises SettingsError for a folder that is no project, CatalogError for definitions that do not hold.
    """
    from feature_definitions.check import checked

    found = settings.load(Path(path))
    return Project(found, checked(found.catalog), say, clock)


def main() -> None:
    """The `headwater` command."""
    from headwater import commands

    commands.main()
