"""Brings what is new in a source: the one way in, whether its rows come in files or frames or are read in place."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import pyarrow as pa
from pyspark.errors import PySparkException

from feature_definitions.errors import InputRefused, UserError
from feature_definitions.language import Query, Source
from feature_registry import RegistryError, subjects
from feature_registry.leases import LeaseHeld, LeaseLost
from feature_registry.registry import PATIENCE
from lake import versions
from spark_jobs.compute.failures import failing_alone
from spark_jobs.context import Context
from spark_jobs.ingest import files, jdbc, journal, query_faults, source_diff
from spark_jobs.ingest.journal import Ingest, IngestReport

_UNREADABLE = ("DELTA_", "FAILED_READ_FILE", "PATH_NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND")
"""How the conditions of Spark's errors begin that say that a source cannot be read where it lies."""


def each(
    sources: Iterable[Source], context: Context, *, again: Mapping[str, frozenset[str]] = MappingProxyType({})
) -> Iterator[IngestReport]:
    """Bring what is new in each source, in turn. A source that cannot be read costs itself, and the queries that read it.

    Files of a source whose rows go by the names in `again` are read again, changed or not. What nobody foresaw stops the others neither:
    the first such error is raised at the end. A registry that fails ends it at once.
    """
    failed: set[str] = set()
    unforeseen: Exception | None = None
    for source in sources:
        try:
            report = _unless_behind(source, failed) or bring(source, context, again=again.get(source.name, frozenset()))
        except Exception as error:
            if isinstance(error, RegistryError) and not isinstance(error, LeaseHeld | LeaseLost):
                raise
            report = IngestReport(source.name, failed=_sentence(error))
            unforeseen = unforeseen or (None if _is_of_the_source(error) else error)
        if report.failed is not None:
            failed.add(source.name)
        yield report
    if unforeseen is not None:
        raise unforeseen


def _unless_behind(source: Source, failed: set[str]) -> IngestReport | None:
    """What is said of a query that reads a source which failed."""
    behind = [read.name for read in source.at.sources if read.name in failed] if isinstance(source.at, Query) else []
    return IngestReport(source.name, failed=f"source {source.name} waits: it reads {behind[0]}, which failed") if behind else None


def _is_of_the_source(error: Exception) -> bool:
    """Whether an error says that the source cannot be read; any other is ours, or of what we run on."""
    if isinstance(error, PySparkException):
        return (error.getCondition() or "").startswith(_UNREADABLE)
    return isinstance(error, UserError)


def _sentence(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:500] or type(error).__name__


def bring(source: Source, context: Context, *, again: frozenset[str] = frozenset()) -> IngestReport:
    """Bring new and changed files into a source's table, or record what changed in the tables that it reads in place; one at a time.

    Files whose rows go by the names of `again` are read again, changed or not.
    Starts Spark only if there may be something new. A crash leaves readers with what they had, and the next ingest sets it right.
    """
    with context.registry.lease(subjects.source(source.name, lake=context.lake), now=context.clock(), patience=PATIENCE):
        journal.recover(source, context)
        ingest_id = context.mint("i", after=(file.ingest_id for file in context.registry.files(source.name).values()))
        job = Ingest(context, source, ingest_id, context.clock(), again | journal.lost(source, context))
        if source.lies_in_place:
            alone = failing_alone(f"source {source.name}", because=lambda: query_faults.found(source, context))
            with alone, jdbc.told(context, source), jdbc.one_state(context, source) as seen:
                return source_diff.ingest(replace(job, context=seen))
        if versions.pinned(source, context.lake):
            raise InputRefused(f"source {source.name} was read in place until now; files that it reads instead need a name of their own")
        with failing_alone(f"source {source.name}"):
            return files.ingest(job)


def write(source: Source, frame: pa.Table, context: Context) -> IngestReport:
    """Add a frame's rows to a source, as if they had come in a file; the same frame twice counts once."""
    if source.lies_in_place:
        raise InputRefused(
            f"source {source.name} is read in place; write to the table that it reads, then run `headwater ingest {source.name}`"
        )
    files.write_frame(source, frame, context)
    return bring(source, context)
