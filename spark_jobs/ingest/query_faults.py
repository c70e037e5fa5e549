"""Finds why a query cannot be computed: which of its expressions fails, and a row for which it does."""

from collections.abc import Iterator

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions.errors import UserError
from feature_definitions.language import Query, Source
from feature_definitions.sql.column_types import columns_of
from feature_definitions.sql.query_suspects import Suspect, suspects
from spark_jobs.compute.failures import OF_VALUES
from spark_jobs.context import Context
from spark_jobs.ingest import events, in_place, jdbc

_SHOWN = 100
"""So many characters are shown of a value."""


def found(source: Source, context: Context) -> str | None:
    """The expression of a source's query that fails and a row of which it does; None if there is none to be found."""
    if not isinstance(source.at, Query):
        return None
    try:
        with jdbc.told(context, source):
            return next(_failing(source.at, context, source), None)
    except (*OF_VALUES, UserError):  # what it reads cannot be read or computed any more
        return None


def _failing(query: Query, context: Context, source: Source) -> Iterator[str]:
    state = {pin.source: pin for pin in in_place.state(source, context)}
    frames, read = events.tables_of(query, context, state), {each.name: each for each in query.sources}
    for suspect in suspects(query.sql, {each.name: columns_of(each) for each in query.sources}):
        row = _row(frames[suspect.table], suspect, read[suspect.table])
        if row is not None:
            yield f"{suspect.sql!r} has no value for a row of {suspect.table} with {row}"


def _row(rows: DataFrame, suspect: Suspect, table: Source) -> str | None:
    """What a row says for which an expression fails, and what tells it from others."""
    at = [table.event_timestamp] if table.event_timestamp else []
    shown = list(dict.fromkeys([*suspect.reads, *table.id, *at]))
    texts = [F.substring(F.col(f"`{name}`").cast("string"), 1, _SHOWN).alias(f"c{n}") for n, name in enumerate(shown)]
    row = rows.where(suspect.fails).select(*texts).first()
    return None if row is None else ", ".join(f"{name}={value}" for name, value in zip(shown, row, strict=True))
