"""Brings what is new in a source: the one way in, whether its rows come in files or frames or are read in place."""

import pyarrow as pa

from feature_definitions.errors import InputRefused
from feature_definitions.language import Source
from feature_registry import subjects
from feature_registry.registry import PATIENCE
from lake import versions
from spark_jobs.context import Context
from spark_jobs.ingest import files, jdbc, journal, source_diff
from spark_jobs.ingest.journal import Ingest, IngestReport


def bring(source: Source, context: Context) -> IngestReport:
    """Bring new and changed files into a source's table, or record what changed in the tables that it reads in place; one at a time.

    Starts Spark only if there may be something new. A crash leaves readers with what they had, and the next ingest sets it right.
    """
    with context.registry.lease(subjects.source(source.name, lake=context.lake), now=context.clock(), patience=PATIENCE):
        journal.recover(source, context)
        job = Ingest(context, source, context.mint("i"), context.clock())
        if source.lies_in_place:
            with jdbc.told(context, source):
                return source_diff.ingest(job)
        if versions.pinned(source, context.lake):
            raise InputRefused(f"source {source.name} was read in place until now; files that it reads instead need a name of their own")
        return files.ingest(job)


def write(source: Source, frame: pa.Table, context: Context) -> IngestReport:
    """Add a frame's rows to a source, as if they had come in a file; the same frame twice counts once."""
    if source.lies_in_place:
        raise InputRefused(
            f"source {source.name} is read in place; write to the table that it reads, then run `headwater ingest {source.name}`"
        )
    files.write_frame(source, frame, context)
    return bring(source, context)
