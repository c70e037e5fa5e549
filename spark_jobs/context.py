"""What jobs work with: the values that are the same for all of them, and those of one run of a group."""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from pyspark.sql import SparkSession

from feature_definitions import connections, layout
from feature_definitions.connections import Connection
from feature_definitions.intervals import Interval, micros
from feature_definitions.language import FeatureGroup
from feature_definitions.planning.plan import GroupPlan
from feature_definitions.records import LedgerEntry
from feature_definitions.sql.column_types import ColumnTypes
from feature_registry.registry import Registry
from lake import staging
from lake.delta_commits import Fence

_MINTED = re.compile(r"[ip](\d{17})-")


def no_connection(name: str) -> Connection:
    """No database has a connection."""
    return connections.read(name, {})


@dataclass(frozen=True, slots=True)
class Context:
    """What every job works with: where the project's files and tables lie, the registry, how time is told, and who hears of progress.

    `connection` gives the connection to a database by its name; `catalog` is the folder of the definitions; `master` is that of Spark.
    `start_spark` is called when a job needs Spark for the first time, so that one that finds nothing to do starts none.
    """

    start_spark: Callable[[], SparkSession]
    root: Path
    lake: str
    registry: Registry
    clock: Callable[[], datetime]
    say: Callable[[str], None]
    connection: Callable[[str], Connection] = no_connection
    catalog: Path = Path("catalog")
    master: str = "local[*]"

    @property
    def spark(self) -> SparkSession:
        """The Spark session, which is started if none runs."""
        return self.start_spark()

    def mint(self, kind: Literal["i", "p"], *, after: Iterable[str] = ()) -> str:
        """A new id of an ingest (`i`) or of what is published (`p`), with the time at which it was minted.

        Ids of a source or a group sort in the order in which they were minted: by a clock that was set back, or that of another machine,
        an id comes a microsecond later than the newest of those `after` which it must sort.
        """
        newest = _MINTED.match(max(after, default=""))
        at = micros(self.clock())
        return f"{kind}{at if newest is None else max(at, int(newest[1]) + 1):017d}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a group: its plan, its types, its publish_id, the source's revision and the ledger as they were when it began.

    A transform has the revision of each source that it reads in `revisions`.
    """

    context: Context
    work: GroupPlan
    types: ColumnTypes
    publish_id: str
    revision: int
    before: Mapping[Interval, LedgerEntry]
    revisions: Mapping[str, int] = field(default_factory=dict)

    @property
    def staging(self) -> str:
        """The folder of rows that nobody reads before the commit."""
        return layout.staging_folder(self.context.lake, self.publish_id)

    @property
    def fence(self) -> Fence:
        """What refuses to commit rows of the staging folder once that is cleared away, or the group's lease lost."""
        return staging.guarded(self.staging, self.context.registry.fence)

    @property
    def group(self) -> FeatureGroup:
        """The group that is run."""
        return self.work.group
