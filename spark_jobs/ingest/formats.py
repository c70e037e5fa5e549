"""Reads one source file of any format into typed rows: pure, with the line and the reason of each row that cannot be taken."""

from collections.abc import Iterator

import pyarrow as pa

from spark_jobs.ingest import columnar, delimited, folders, hints, json_lines
from spark_jobs.ingest.cells import first_line
from spark_jobs.ingest.opened import UNREADABLE
from spark_jobs.ingest.parsing import FileRefused, Shape
from spark_jobs.ingest.whereabouts import Place


def read(path: Place, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, good and refused ones; `name` is how the file is called in records.

    Raises `FileRefused`, which says what to write if the file would fit then.
    """
    wanted = folders.at(wanted, name)
    try:
        yield from _read(path, wanted, name)
    except FileRefused as error:
        hint = hints.of_file(path, wanted)
        raise error if hint is None else FileRefused(f"{str(error).rstrip('.')}{'' if str(error).endswith('?') else '.'} {hint}") from None


def _read(path: Place, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    try:
        match wanted.format:
            case "csv":
                yield from delimited.read(path, wanted, name=name)
            case "jsonl":
                yield from json_lines.read(path, wanted, name=name)
            case _:
                yield from columnar.read(path, wanted, name=name)
    except UNREADABLE as error:
        raise FileRefused(f"{name} cannot be read ({first_line(error)}): is it truncated or corrupt?") from error
