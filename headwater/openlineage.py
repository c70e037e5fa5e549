"""Tells a receiver of OpenLineage events what runs read and wrote, column by column; nothing that goes wrong with it fails a run.

What is told follows from the definitions: a source's rows, a group's table, a training set, a group in the online store. An event is a
line in a file, or is sent to `<URL>/api/v1/lineage`. Events hold names and types, never values, users or passwords.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import iso
from feature_definitions.language import (
    DeltaTable,
    FeatureGroup,
    FeatureService,
    Files,
    Jdbc,
    Query,
    Source,
    Table,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.settings import Settings
from feature_definitions.sql import lineage
from feature_definitions.sql.column_types import column_types_of, columns_of
from feature_definitions.sql.queries import query_reads
from online_sync import address

PRODUCER = "urn:headwater"
_SPEC = "https://openlineage.io/spec"
_SECONDS = 5
"""How long a receiver may take."""


class TableTold(NamedTuple):
    """A dataset: where it lies, what it is called there, and its columns with their types."""

    namespace: str
    name: str
    columns: Mapping[str, str]


class ReadColumn(NamedTuple):
    """A column that another one rests on: a value of it is computed from, or a row is chosen by (INDIRECT)."""

    table: TableTold
    column: str
    kind: str = "DIRECT"


class Job(NamedTuple):
    """What a run does: its name, the tables that it reads, the one that it writes, and what each column of that rests on."""

    name: str
    inputs: tuple[TableTold, ...]
    output: TableTold
    reads: Mapping[str, tuple[ReadColumn, ...]]


# ----------------------------------------------------------------------------------------------------------------------- the jobs


def of_ingest(source: Source, lake: str, root: Path) -> Job | None:
    """A run that brings what is new in a source; None of a Delta table, which is read where it lies, and of frames alone."""
    if source.at is None or isinstance(source.at, DeltaTable):
        return None
    inputs, output = tuple(_places(source, lake, root)), _source(source, lake)
    named = lineage.columns_of(query_reads, source.at.sql) if isinstance(source.at, Query) else None
    reads = {
        column: tuple(ReadColumn(table, each) for table in inputs for each in table.columns if each in (named or (column,)))
        for column in source.columns
    }
    return Job(f"ingest.{source.name}", inputs, output, reads)


def of_group(group: FeatureGroup, generation: int, lake: str, *, read: Mapping[str, int]) -> Job:
    """A run that materializes a generation of a group; `read` are the generations of the groups that it reads."""
    sources = {source.name: _source(source, lake) for source in group.input_sources}
    groups = {each.name: (each, _group(each, generation=read[each.name], lake=lake)) for each in group.input_groups}
    reads = {column: (*_of_sources(group, column, sources), *_of_groups(group, groups)) for column in group.outputs}
    inputs = (*sources.values(), *(table for _, table in groups.values()))
    return Job(f"materialize.{group.name}", inputs, _group(group, generation=generation, lake=lake), reads)


def of_training_set(name: str, service: FeatureService, generations: Mapping[str, int], lake: str, *, spine: Source | None = None) -> Job:
    """A run that builds a training set: of a spine, where a source is one, and of a service's features."""
    tables = {join.name: _group(join.group, generation=generations[join.group.name], lake=lake) for join in service.joins}
    found = {f"{join.name}__{column}": ReadColumn(tables[join.name], column) for join in service.joins for column in join.columns}
    rows = [] if spine is None else [_source(spine, lake)]
    found = {column: ReadColumn(table, column) for table in rows for column in table.columns} | found
    columns = {column: read.table.columns[read.column] for column, read in found.items()}
    output = _table(layout.training_set_table(lake, name), columns)
    inputs = {table.name: table for table in (*rows, *tables.values())}
    return Job(f"training_set.{name}", tuple(inputs.values()), output, {name: (read,) for name, read in found.items()})


def of_sync(group: FeatureGroup, generation: int, lake: str, *, store: str, project: str) -> Job:
    """A run that brings a group's rows online."""
    read, at = _group(group, generation=generation, lake=lake), address.read(store)
    host, port = at.hosts[0] if at.hosts else ("localhost", 6379)
    online = TableTold(f"redis://{host}:{port}", f"{project}.{group.name}", read.columns)
    return Job(f"sync.{group.name}", (read,), online, {column: (ReadColumn(read, column),) for column in group.outputs})


def _source(source: Source, lake: str) -> TableTold:
    """The rows of a source, as groups read them: the table that an ingest brings them to, which only stands for what is read in place."""
    return _table(layout.source_table(lake, source.name), {name: str(kind) for name, kind in columns_of(source).items()})


def _places(source: Source, lake: str, root: Path) -> Iterator[TableTold]:
    """Where the rows of a source come from. A database is called by the name of its connection, whose URL is nobody's business."""
    columns = {name: str(kind) for name, kind in source.columns.items()}
    match source.at:
        case Files():
            for place in (source.at.path,) if isinstance(source.at.path, str) else source.at.path:
                yield _table(_folder(place, root), columns)
        case Table():
            yield TableTold("spark", source.at.name, columns)
        case Jdbc():
            yield TableTold(f"jdbc:{source.at.connection}", source.at.table or source.name, columns)
        case Query():
            yield from (_source(each, lake) for each in source.at.sources)


def _folder(place: str, root: Path) -> str:
    """The folder below which all files of a glob lie; a file without signs of a glob is itself."""
    parts = list(takewhile(lambda part: not set(part) & set("*?[{"), place.split("/")))
    return "/".join(parts) if place.startswith(layout.S3) else str(root / "/".join(parts))


def _group(group: FeatureGroup, *, generation: int, lake: str) -> TableTold:
    keys = {key: str(kind) for key, kind in group.entity.keys.items()}
    outputs = {name: str(kind) for name, kind in column_types_of(group).outputs.items()}
    return _table(layout.feature_table(lake, group.name, generation), {**keys, "event_timestamp": "timestamp", **outputs})


def _table(path: str, columns: Mapping[str, str]) -> TableTold:
    if not path.startswith(layout.S3):
        return TableTold("file", path, columns)
    bucket, _, key = path.removeprefix(layout.S3).partition("/")
    return TableTold(f"s3://{bucket}", key, columns)


def _of_sources(group: FeatureGroup, column: str, sources: Mapping[str, TableTold]) -> Iterator[ReadColumn]:
    """What of the sources an output column rests on, each column once."""
    if not isinstance(group, WindowedGroup | TransformGroup) and column in group.source.columns:
        yield ReadColumn(sources[group.source.name], column)
    found: dict[tuple[str, str], str] = {}
    for name, table in sources.items():
        for by, columns in lineage.reads(group, frozenset({column}), name):
            kind = "INDIRECT" if by == f"where of {group.name}" else "DIRECT"
            found |= {(name, each): kind for each in sorted(columns) if each in table.columns and found.get((name, each)) != "DIRECT"}
    yield from (ReadColumn(sources[name], each, kind) for (name, each), kind in found.items())


def _of_groups(group: FeatureGroup, groups: Mapping[str, tuple[FeatureGroup, TableTold]]) -> Iterator[ReadColumn]:
    """What of the groups that a transform reads any of its columns may rest on: of SQL the columns that it names, of a function all."""
    sql = group.sql if isinstance(group, TransformGroup) else None
    named = None if sql is None else lineage.columns_of(query_reads, sql)
    for read, table in groups.values():
        yield from (ReadColumn(table, column) for column in read.outputs if named is None or column in named)


# ------------------------------------------------------------------------------------------------------------------------- events


def event(kind: str, job: Job, *, namespace: str, run: uuid.UUID, at: datetime, failed: str | None = None) -> dict[str, Any]:
    """One event about a run, as OpenLineage 2 spells it."""
    facets = {} if failed is None else {"errorMessage": _facet("ErrorMessageRunFacet", message=failed, programmingLanguage="python")}
    return {
        "eventType": kind,
        "eventTime": iso(at),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(run), "facets": facets},
        "job": {"namespace": namespace, "name": job.name, "facets": {}},
        "inputs": [{**_name(table), "facets": {"schema": _schema(table)}} for table in job.inputs],
        "outputs": [{**_name(job.output), "facets": {"schema": _schema(job.output), "columnLineage": _lineage(job)}}],
    }


def _name(table: TableTold) -> dict[str, str]:
    return {"namespace": table.namespace, "name": table.name}


def _schema(table: TableTold) -> dict[str, Any]:
    return _facet("SchemaDatasetFacet", fields=[{"name": name, "type": kind} for name, kind in table.columns.items()])


def _lineage(job: Job) -> dict[str, Any]:
    fields = {
        column: {"inputFields": [{**_name(read.table), "field": read.column, "transformations": [{"type": read.kind}]} for read in reads]}
        for column, reads in job.reads.items()
        if reads
    }
    return _facet("ColumnLineageDatasetFacet", fields=fields)


_VERSIONS = {"SchemaDatasetFacet": "1-2-0", "ColumnLineageDatasetFacet": "1-2-0", "ErrorMessageRunFacet": "1-0-1"}


def _facet(name: str, **fields: object) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{_VERSIONS[name]}/{name}.json#/$defs/{name}", **fields}


# ------------------------------------------------------------------------------------------------------------------------ telling


@contextmanager
def telling(job: Job, settings: Settings, *, clock: Callable[[], datetime], say: Callable[[str], None]) -> Iterator[list[str]]:
    """Tell that a run begins, and that it is complete or has failed: by an error, or as the list says that the caller may fill."""
    run, failures = uuid.uuid4(), list[str]()

    def tell(kind: str, failed: str | None = None) -> None:
        said = event(kind, job, namespace=settings.name, run=run, at=clock(), failed=failed)
        if (problem := _sent(said, settings)) is not None:
            say(f"OpenLineage was not told of {job.name}: {problem}")

    tell("START")
    try:
        yield failures
    except BaseException as error:
        tell("FAIL", str(error) if isinstance(error, UserError) else type(error).__name__)
        raise
    tell("FAIL" if failures else "COMPLETE", "; ".join(failures) or None)


def _sent(said: Mapping[str, Any], settings: Settings) -> str | None:
    """Append an event to the file, or send it; gives why that failed."""
    to, text = str(settings.lineage), json.dumps(said)
    if to.startswith(("http://", "https://")):
        return _posted(f"{to.rstrip('/')}/api/v1/lineage", text, key=settings.lineage_key)
    try:
        with Path(to).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        return f"{to}: {error.strerror}"
    return None


def _posted(url: str, text: str, *, key: str | None) -> str | None:
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    asked = urllib.request.Request(url, data=text.encode(), headers=headers)  # noqa: S310  # http alone
    try:
        urllib.request.urlopen(asked, timeout=_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
    return None
