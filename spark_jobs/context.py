"""What jobs work with: the values that are the same for all steps of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession

from feature_definitions.intervals import Interval
from feature_definitions.language import FeatureGroup
from feature_definitions.planning.plan import GroupPlan
from feature_definitions.records import LedgerEntry
from feature_registry.registry import Registry
from spark_jobs.compute.windows import ColumnTypes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a project's files and tables lie."""

    root: Path
    lake: str


@dataclass(frozen=True, slots=True)
class Offline:
    """What the offline stages work with: Spark, the lake, the registry, and how time is told."""

    spark: SparkSession
    lake: str
    registry: Registry
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a group: its plan, its types, its publish_id, the source's revision and the ledger as they were when it began.

    A transform has the revision of each source that it reads in `revisions`.
    """

    work: GroupPlan
    types: ColumnTypes
    publish_id: str
    revision: int
    before: Mapping[Interval, LedgerEntry]
    revisions: Mapping[str, int] = field(default_factory=dict)

    @property
    def group(self) -> FeatureGroup:
        """The group that is run."""
        return self.work.group
