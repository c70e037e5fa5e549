"""A project: its definitions, tables and stores, and what can be done with them."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from feature_definitions import settings
from feature_definitions.loader import Catalog
from headwater.online_verbs import OnlineVerbs
from headwater.open_project import Say
from headwater.training_verbs import TrainingVerbs

OnMistakes = Literal["refuse", "leave out"]
"""What is done about definitions that do not hold: nothing at all is done, or what does not rest on them is."""


class Project(TrainingVerbs, OnlineVerbs):
    """A project's definitions, tables and stores. Times are UTC; ranges are of intervals, their end exclusive.

    Ends with `close()` or a `with` block, which stop Spark if this project started it (where Spark runs already, it is shared); the
    embedded online store runs on until `down()`.
    """


def open(
    path: str | os.PathLike[str] = ".",
    *,
    say: Say = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    mistakes: OnMistakes = "refuse",
) -> "Project":
    """The project in a folder; its definitions are loaded and checked. `say` is told what long work is doing.

    Raises SettingsError for a folder that is no project, and CatalogError for definitions that do not hold, unless these and what rests
    on them shall be left out; then `catalog.left_out` says which mistakes there are.
    """
    from feature_definitions.check import checked, checked_sound

    found = settings.load(Path(path))
    if mistakes == "refuse":
        return Project(found, checked(found.catalog), say, clock)
    catalog = checked_sound(found.catalog)
    for mistake in catalog.left_out:
        say(f"left out, with what rests on it: {mistake}")
    return Project(found, catalog, say, clock)


def undefined(path: str | os.PathLike[str], *, say: Say) -> "Project":
    """The project in a folder, without its definitions: to look at data before they hold."""

    return Project(settings.load(Path(path)), Catalog({}, {}, {}, {}, {}, {}), say, lambda: datetime.now(UTC))
