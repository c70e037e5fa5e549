"""Errors of Spark's Python workers, as the driver sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyspark.errors import PythonException

from feature_definitions.errors import UserError
from spark_jobs import workers
from spark_jobs.ingest.parsing import FileRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

SENTENCE = "the file\nx.csv has no column 'a' \"or\" b[0] \\ ü"


UNREADABLE = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"


def raising(error: Callable[[], BaseException]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Work that fails at its first batch."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch
            raise error()

    return work


def local_class() -> Exception:
    """An error of a class that no driver can import."""

    class TooLate(UserError):
        """Known here alone."""

    return TooLate(SENTENCE)


def unknown_class() -> Exception:
    """The same, of which nobody knows whether the caller made a mistake."""
    return type("Odd", (Exception,), {"__module__": "nowhere"})("who knows")


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (lambda: FileRefused(SENTENCE), FileRefused, SENTENCE),
        (
            lambda: UnicodeDecodeError("utf-8", b"a", 0, 1, "odd"),
            workers.WorkerFailed,
            "UnicodeDecodeError: 'utf-8' codec can't decode byte 0x61 in position 0: odd",
        ),
        (lambda: KeyError("x"), workers.WorkerFailed, "KeyError: 'x'"),
        (lambda: OSError("disk is full"), OSError, "disk is full"),
        (local_class, UserError, SENTENCE),
        (unknown_class, workers.WorkerFailed, "Odd: who knows"),
        (lambda: SystemExit(3), workers.WorkerFailed, "SystemExit: 3"),
    ],
    ids=["of ours", "whose class takes more", "whose class quotes it", "of Python", "of a local class", "of no class", "an end"],
)
def test_what_a_worker_raises_arrives_with_its_class_its_sentence_and_its_traceback(
    spark: SparkSession, error: Callable[[], BaseException], kind: type[Exception], sentence: str
) -> None:
    rows = spark.range(3).mapInArrow(workers.carrying(raising(error)), "id long")
    with pytest.raises(kind) as raised, workers.as_raised():
        rows.collect()
    assert type(raised.value) is kind
    assert str(raised.value) == sentence
    assert "in work" in raised.value.__notes__[0]


def test_what_other_work_raises_stays_as_spark_says_it_and_its_last_words_are_the_error(spark: SparkSession) -> None:
    rows = spark.range(3).mapInArrow(raising(lambda: FileRefused("no\nfile")), "id long")
    with pytest.raises(PythonException) as raised, workers.as_raised():
        rows.collect()
    assert workers.last_words(raised.value) == "spark_jobs.ingest.parsing.FileRefused: no file"


def test_work_that_raises_nothing_gives_its_rows(spark: SparkSession) -> None:
    with workers.as_raised():
        assert [row["id"] for row in spark.range(3).mapInArrow(workers.carrying(iter), "id long").collect()] == [0, 1, 2]


def test_works_get_one_after_the_other_what_the_one_before_gave() -> None:
    def times(number: int) -> workers.Work:
        return lambda batches: (pa.RecordBatch.from_pydict({"n": [row["n"] * number + 1 for row in b.to_pylist()]}) for b in batches)

    (found,) = workers._in_turn((times(10), times(2)))(iter([pa.RecordBatch.from_pydict({"n": [1, 2]})]))
    assert found.to_pydict() == {"n": [23, 43]}
