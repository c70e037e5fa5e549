"""What one ingest did, and how it is remembered: the intent, the lake's records, the commit that makes it visible, the confirmation.

The order makes every crash repairable: records count only if the commit happened, and whether it did can be asked of the table's log.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from feature_definitions import layout
from feature_definitions.language import Source
from feature_definitions.records import IngestedFile, PendingIngest, Revision
from lake import delta, facts, staging
from lake.delta_commits import Fence
from spark_jobs.context import Context


@dataclass(frozen=True, slots=True)
class Ingest:
    """One ingest of a source: what every job works with, the source, the ingest's id, and when it began.

    Files whose rows go by the names of `again` are read again; if there are any, what lies in place is compared again.
    """

    context: Context
    source: Source
    ingest_id: str
    now: datetime
    again: frozenset[str] = frozenset()

    @property
    def table(self) -> str:
        """The Delta table of the source's ingested rows."""
        return layout.source_table(self.context.lake, self.source.name)

    @property
    def staging(self) -> str:
        """The folder of rows that nobody reads before the commit."""
        return layout.staging_folder(self.context.lake, self.ingest_id)

    @property
    def fence(self) -> Fence:
        """What refuses to commit rows of the staging folder once that is cleared away, or the source's lease lost."""
        return staging.guarded(self.staging, self.context.registry.fence)


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest of a source did; `refused` files were left out whole, with the reason.

    What is read `in_place` was compared with what it was: `quarantined` rows are none of its events and stay where they lie.
    By name: `renamed` files with their old names, `copies` with the file that each is equal to, and files that are left for the next
    time (`waiting`) with the reason. `failed` says why a source could not be read at all; what it had before stays as it was.
    `hints` say why no rows came, and what the source may have to say of its files.
    """

    source: str
    files: int = 0
    rows: int = 0
    quarantined: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    dates_changed: int = 0
    revision: int | None = None
    refused: tuple[str, ...] = ()
    in_place: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    failed: str | None = None
    hints: tuple[str, ...] = ()


def recover(source: Source, context: Context) -> None:
    """Finish or forget the ingests that a crash cut off: what was committed counts, the rest never happened."""
    lake, registry = context.lake, context.registry
    for pending in registry.pending_ingests(source.name):
        if not pending.commits or any(delta.committed(path, pending.ingest_id) for path in layout.ingest_logs(lake, source.name)):
            registry.finish_ingest(pending.ingest_id)
        else:
            registry.abandon(pending.ingest_id)
        staging.clear(layout.staging_folder(lake, pending.ingest_id))


def lost(source: Source, context: Context) -> frozenset[str]:
    """The names by which the rows of all files of a source go, if its table lacks the newest ingest that the registry knows; else none."""

    def lacks(ingest_id: str) -> bool:
        return all(delta.lacks(path, ingest_id) for path in layout.ingest_logs(context.lake, source.name))

    found = context.registry.files(source.name).values()
    ids = sorted({file.ingest_id for file in found if file.rows}, reverse=True)
    if not ids or not lacks(ids[0]):
        return frozenset()
    committed = facts.ingests_with_commits(context.lake, source.name)  # what brings the rows that were there anyway makes no commit
    newest = next((each for each in ids if committed.get(each, True)), None)
    if newest is None or not lacks(newest):
        return frozenset()
    context.say(f"{source.name}: its table lacks what was ingested last; reading all of its files again")
    return frozenset(file.came_as or file.path for file in found)


def record(job: Ingest, found: Sequence[IngestedFile], revisions: Sequence[Revision], commit: Callable[[], None] | None) -> None:
    """Remember what an ingest found, and make it visible by its commit; None: nothing is to be committed."""
    lake, registry, commits = job.context.lake, job.context.registry, commit is not None
    pending = PendingIngest(job.ingest_id, job.source.name, tuple(found), tuple(revisions), commits=commits)
    registry.begin_ingest(pending)
    facts.keep_ingest(lake, pending)
    if commit is not None:
        commit()
    registry.finish_ingest(job.ingest_id)
