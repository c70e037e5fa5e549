"""Reads a first part of the files of a source and says what does not fit; keeps nothing and needs no Spark."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from feature_definitions.counted import counted
from feature_definitions.errors import UserError
from feature_definitions.language import Files, Source
from feature_definitions.layout import LINE, REASON
from spark_jobs.ingest import folders, formats, globs, hints, parsing, whereabouts
from spark_jobs.ingest.parsing import Shape
from spark_jobs.ingest.whereabouts import Place

FILES, BATCHES = 3, 1
"""So much is read: the first files by name, and the first batches of each."""


class Misfit(NamedTuple):
    """What does not fit: the source, the file or the glob, and what is wrong with it and what to write instead."""

    source: str
    file: str
    message: str


def misfits(source: Source, *, root: Path) -> Iterator[Misfit]:
    """What of a source's files cannot be taken as the source says they are; nothing of one that reads no files."""
    if isinstance(source.at, Files):
        yield from _misfits(source, source.at, root)


def _misfits(source: Source, at: Files, root: Path) -> Iterator[Misfit]:
    try:
        paths = [path for path in globs.matched(at.paths, root=root).files if path.is_file()]
    except UserError as error:
        yield Misfit(source.name, at.place, str(error))
        return
    if not paths:
        yield Misfit(source.name, at.place, f"no file is at {whereabouts.shown(at.paths, root=root)}")
    for path in paths[:FILES]:
        name = whereabouts.named(path, root)
        message = _misfit(path, parsing.shape(source, at.format), name)
        if message is not None:
            yield Misfit(source.name, name, message)
    yield from (Misfit(source.name, at.place, said) for said in hints.of_globs(at.paths, root=root))


def _misfit(path: Place, wanted: Shape, name: str) -> str | None:
    rows, bad, first = 0, 0, ""
    try:
        for batch in islice(formats.read(path, wanted, name=name), BATCHES):
            wrong = batch.filter(pc.is_valid(batch.column(REASON)))
            rows, bad = rows + batch.num_rows, bad + wrong.num_rows
            if wrong.num_rows and not first:
                first = f"line {wrong.column(LINE)[0]}: {wrong.column(REASON)[0]}"
    except UserError as error:  # it cannot be taken, or not be reached
        return str(error)
    hint = hints.of_file(path, folders.at(wanted, name)) if bad or wanted.format == "jsonl" else None
    if not bad:
        return None if hint is None else f"{name}: {hint}"
    return f"{name}: {bad} of the first {counted(rows, 'row')} put aside; {first}{'' if hint is None else f'. {hint}'}"
