"""What a Python worker of Spark raises arrives at the driver as what it was: its class, its sentence and where it was raised."""

import contextlib
import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.errors import PythonException
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from feature_definitions.errors import UserError

Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_MARK = "headwater raised "
_LONGEST = 20_000


class WorkerFailed(Exception):
    """Something that was raised in a worker and that only its class and sentence tell of; in the worker, what carries it."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows that workers get, and what these make of them, one work after the other: Spark sees the rows only before and after all of it.

    `schema` is that of the rows as they come out; `tasks` is among how many tasks they lie, if known.
    """

    rows: DataFrame
    schema: StructType
    works: tuple[Work, ...] = ()
    tasks: int | None = None

    @classmethod
    def of(cls, rows: DataFrame) -> "Flow":
        """Rows of which nothing is made yet."""
        return cls(rows, rows.schema)

    def then(self, work: Work, schema: StructType) -> "Flow":
        """With one more work, after which the rows have other columns."""
        return replace(self, works=(*self.works, work), schema=schema)

    @property
    def frame(self) -> DataFrame:
        """What comes out; lazy."""
        return self.rows.mapInArrow(carrying(_in_turn(self.works)), self.schema) if self.works else self.rows


def _in_turn(works: tuple[Work, ...]) -> Work:
    """Works as one, each of which gets the batches that the one before gives."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return reduce(lambda given, work: work(given), works, batches)

    return run


def gathered(batches: Iterator[pa.RecordBatch], *, size: Callable[[pa.RecordBatch], int], enough: int) -> Iterator[pa.Table]:
    """Batches put together as tables, each of as few as have `enough` in all by their `size`; the last one of what is left."""
    held: list[pa.RecordBatch] = []
    whole = 0
    for batch in batches:
        held.append(batch)
        whole += size(batch)
        if whole >= enough:
            yield pa.Table.from_batches(held)
            held, whole = [], 0
    if held:
        yield pa.Table.from_batches(held)


def carrying(work: Work) -> Work:
    """Work for `mapInArrow` that writes what it raises as a line of JSON, the one thing that comes through Spark as it is."""

    @functools.wraps(work)
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from work(batches)
        except (Exception, SystemExit) as error:  # a user's function may try to end the process
            kind, where = type(error), traceback.format_exc()[-_LONGEST:]
            raised = {"module": kind.__module__, "name": kind.__qualname__, "sentence": str(error), "where": where}
            raise WorkerFailed(_MARK + json.dumps(raised | {"mistake": isinstance(error, UserError)})) from error

    return run


@contextlib.contextmanager
def as_raised() -> Iterator[None]:
    """Raise what `carrying` work raised in a worker; its traceback there is a note."""
    try:
        yield
    except PythonException as error:
        carried = next((line.partition(_MARK)[2] for line in str(error).splitlines() if _MARK in line), None)
        if carried is None:
            raise
        raise _rebuilt(json.loads(carried)) from error


def last_words(error: PythonException) -> str:
    """The class and the sentence of what other work raised, which stand below the frames of its traceback."""
    lines = str(error).rstrip().splitlines()
    below = next((n for n in range(len(lines), 0, -1) if lines[n - 1].startswith(" ")), 0)
    return " ".join(lines[below:])


def _rebuilt(raised: Mapping[str, Any]) -> Exception:
    """The error again; its fields beside the sentence stay in the worker."""
    sentence = raised["sentence"]
    error = _of_its_class(raised["module"], raised["name"], sentence)
    if error is None or str(error) != sentence:
        error = UserError(sentence) if raised["mistake"] else WorkerFailed(f"{raised['name']}: {sentence}")
    error.add_note(raised["where"])
    return error


def _of_its_class(module: str, name: str, sentence: str) -> Exception | None:
    """The error as its class makes it; None if that is not loaded here: what a message names is never imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind.__new__(kind, sentence) if isinstance(kind, type) and issubclass(kind, Exception) else None
