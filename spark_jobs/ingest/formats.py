"""Reads one source file of any format into typed rows: pure, with the line and the reason of each row that cannot be taken."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from spark_jobs.ingest import columnar, delimited, folders, json_lines
from spark_jobs.ingest.cells import first_line
from spark_jobs.ingest.opened import UNREADABLE
from spark_jobs.ingest.parsing import FileRefused, Shape


def read(path: Path, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, good and refused ones; `name` is how the file is called in records. Raises `FileRefused`."""
    wanted = folders.at(wanted, path)
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
