"""The front door for Python: `import headwater as hw; p = hw.open("my_project")`. The `headwater` command stands beside it.

Heavy parts (Spark, Great Expectations, Delta) are imported when something needs them, so that looking costs nothing.
"""

import gc

from feature_definitions import version
from feature_definitions.errors import InputRefused, NotCovered, Unknown, UserError
from headwater.open_project import NotEmpty, RegistryLost, Say, TableLost
from headwater.project import Project, open

__version__ = version.VERSION

__all__ = ["InputRefused", "NotCovered", "NotEmpty", "Project", "RegistryLost", "Say", "TableLost", "Unknown", "UserError", "main", "open"]


_GARBAGE = 2_000_000
"""After how many new objects Python looks for cycles in a command, which makes many records, and ends. By default (700) it takes a third
longer."""


def main() -> None:
    """The `headwater` command."""
    gc.set_threshold(_GARBAGE)
    from headwater import commands

    try:
        commands.main()
    finally:
        gc.freeze()  # or Python would look through all objects once more before it ends
