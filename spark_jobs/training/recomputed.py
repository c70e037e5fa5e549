"""A sample of a training set's rows computed a second time, from versions of which each row is shown only what was there at its time.

Beside it is what a join without time would have taken: the newest values that the entity has. The first must equal the training set; where
the second differs, the point-in-time join matters. Nothing here asks the join or its kernel: times are compared anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from feature_definitions import reading
from feature_definitions.intervals import micros
from feature_definitions.reading import CASES, FOREVER, NEVER
from spark_jobs import point_in_time
from spark_jobs.training import found_by_spark, found_here
from spark_jobs.training.join import JoinAsked
from spark_jobs.training.sampled import AskedOfSample, FoundVersions, SampledVersion, question

Values = dict[str, Any]


class Recomputed(NamedTuple):
    """One join for one row of a sample: what the row must hold, and what the newest values are.

    `known` is since when the version that gives the row's values is known, in microseconds; None where none does.
    """

    expected: Values
    naive: Values
    known: int | None


def recomputed(sample: pa.Table, asked: Sequence[JoinAsked], *, at: str, spark: SparkSession) -> dict[str, list[Recomputed]]:
    """What the rows of a sample hold by each join, without defaults, in the sample's order. `sample` has the keys and times.

    Groups of few rows are looked at here, all others by one job of Spark.
    """
    asked_at: list[int] = sample.column(at).cast(pa.int64()).to_pylist()
    questions = [question(each, sample, asked_at) for each in asked]
    found = _found(questions, spark)
    return {each.asked.join.name: _Answers.of(each, spark).all(answers) for each, answers in zip(questions, found, strict=True)}


def _found(questions: Sequence[AskedOfSample], spark: SparkSession) -> list[list[FoundVersions]]:
    """The versions that each join finds for the rows of a sample."""
    here: dict[int, list[FoundVersions]] = {}
    for number, each in enumerate(questions):
        tables = found_here.tables(each)
        if tables is not None:
            here[number] = found_here.found(each, tables)
    others = [number for number in range(len(questions)) if number not in here]
    by_spark = dict(zip(others, found_by_spark.found([questions[number] for number in others], spark), strict=True))
    return [(here | by_spark)[number] for number in range(len(questions))]


class _Answers(NamedTuple):
    """How versions of one join become the values that a reader gets."""

    question: AskedOfSample
    empty: Mapping[str, object]
    ends: np.ndarray[Any, Any]
    seen: np.ndarray[Any, Any]
    snapshots: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, question: AskedOfSample, spark: SparkSession) -> "_Answers":
        published = question.asked.published
        since, starts = question.known, [(p.publish_id, micros(p.interval.start)) for p in published.publishes]
        ends = np.array([micros(p.interval.end) for p, key in zip(published.publishes, starts, strict=True) if key in since], np.int64)
        known = np.array([since[key] for key in starts if key in since], np.int64)
        seen = ends if question.by_event_time else np.maximum(ends, known)
        taken: tuple[tuple[int, int, int], ...] = ()
        if question.group.by_snapshot:
            rows = point_in_time.snapshots(published, question.asked.clock, spark).collect()
            taken = tuple((row["at"], row["seen"], FOREVER if row["until"] is None else row["until"]) for row in rows)
        return cls(question, point_in_time.empty_values(published, spark), ends, seen, taken)

    def all(self, found: Sequence[FoundVersions]) -> list[Recomputed]:
        """What each row of the sample holds."""
        nobody = [None in key for key in zip(*(column.to_pylist() for column in self.question.keys.values()), strict=True)]
        return [self._sampled(at, row, nobody=gone) for at, row, gone in zip(self.question.times, found, nobody, strict=True)]

    def _sampled(self, at: int, row: FoundVersions, *, nobody: bool) -> Recomputed:
        best, newest = row
        best = None if best is None or best.retracted else best
        given = self._given(at, best, nobody=nobody)
        plain = "nothing" if nobody or (newest and newest.held) else "empty" if newest is None or newest.retracted else "row"
        known = best.known if best is not None and given == "row" else None
        return Recomputed(self._values(at, best, given), self._values(at, newest, plain), known)

    def _given(self, at: int, version: SampledVersion | None, *, nobody: bool) -> str:
        """What a reader gets, by the rule of `reading`."""
        visible = self.ends[self.seen <= at]
        holds = reading.conditions(
            reading.question(self.question.group, at=at, coverage=int(visible.max()) if len(visible) else NEVER),
            nobody=nobody,
            absent=version is None,
            at=NEVER if version is None else version.at,
            empties_at=FOREVER if version is None else self._empties_at(at, version),
            held=version is not None and version.held,
        )
        return CASES[holds.index(True)].given

    def _empties_at(self, at: int, version: SampledVersion) -> int:
        if not self.question.group.by_snapshot:
            return FOREVER if version.empties_at is None else version.empties_at
        later = (taken for taken, seen, until in self.snapshots if version.at < taken <= at and seen <= at < until)
        return min(later, default=FOREVER)

    def _values(self, at: int, version: SampledVersion | None, given: str) -> Values:
        join = self.question.asked.join
        pairs = zip(join.outputs, join.columns, strict=True)
        match given, version:
            case "row", SampledVersion():
                return {output: self._shown(at, column, version.columns[column]) for output, column in pairs}
            case "empty", _:
                return {output: None if column in join.group.ages else _listed(self.empty[column]) for output, column in pairs}
        return dict.fromkeys(join.outputs)

    def _shown(self, at: int, column: str, value: Any) -> Any:
        return reading.age(at, micros(value)) if column in self.question.group.ages and value is not None else value


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
