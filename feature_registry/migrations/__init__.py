"""Brings an older registry's tables up to date with Alembic; each module here is one step, in the order of its `down_revision`.

The first step starts from the tables of version 3, which were numbered in `registry_version` and not yet by Alembic. Only a registry that
is not the newest imports this package.
"""

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

OLDEST = "3"
"""The tables that the first step starts from."""


def known() -> set[str]:
    """The names of the schemas that can be brought up to date, and of the newest."""
    return {OLDEST, *(step.revision for step in _steps().walk_revisions())}


def upgrade(connection: Connection) -> None:
    """Take all steps that the tables lack, within the transaction that the caller began: all of them happen or none."""
    steps = _steps()

    def lacking(at: object, _: MigrationContext) -> object:
        return steps._upgrade_revs("head", at)  # type: ignore[arg-type]  # what `alembic upgrade` itself calls; there is no public name

    context = MigrationContext.configure(connection, opts={"fn": lacking, "script": steps})
    with Operations.context(context):
        context.run_migrations()


def _steps() -> ScriptDirectory:
    folder = str(Path(__file__).parent)
    return ScriptDirectory(folder, version_locations=[folder])
