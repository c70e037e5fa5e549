"""The front door for Python: `import headwater as hw; p = hw.open("my_project")`. The `headwater` command stands beside it.

Heavy parts (Spark, Great Expectations, Delta) are imported when something needs them, so that looking costs nothing.
"""

from feature_definitions import version
from feature_definitions.errors import InputRefused, NotCovered, Unknown, UserError
from headwater.open_project import NotEmpty, RegistryLost, Say
from headwater.project import Project, open

__version__ = version.VERSION

__all__ = ["InputRefused", "NotCovered", "NotEmpty", "Project", "RegistryLost", "Say", "Unknown", "UserError", "main", "open"]


def main() -> None:
    """The `headwater` command."""
    from headwater import commands

    commands.main()
