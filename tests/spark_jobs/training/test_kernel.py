"""The join of one task is that of a plain loop over all versions, for any versions, spine and clock, and it never loses or adds a row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_definitions import reading
from feature_definitions.reading import CASES, FOREVER, NEVER, Question
from spark_jobs.training import kernel
from spark_jobs.training.kernel import AT, EMPTIES, HELD, MODELLED, ORDER, RETRACTED, TAG, TIME, Lookup, OutputColumn, TaskWork

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Key = tuple[str | None, int | None]
OUTPUTS = (
    OutputColumn("value", "text", None, False),
    OutputColumn("amount", "number", 0.5, False),
    OutputColumn("since", "moment", None, True),
)
PLAIN = Lookup(1, ("k0", "k1"), "windowed", FOREVER, (), False, None, OUTPUTS, "modelled", "case")
SCHEMA = pa.schema(
    [
        (TAG, pa.int32()), ("k0", pa.string()), ("k1", pa.int64()), (AT, pa.int64()), (TIME, pa.int64()), (ORDER, pa.int64()),
        (EMPTIES, pa.int64()), ("text", pa.string()), ("number", pa.float64()), ("moment", pa.timestamp("us", tz="UTC")),
    ]
)  # fmt: skip


class Version(NamedTuple):
    key: Key
    seen: int
    at: int
    order: int
    empties: int | None
    text: str | None
    number: float | None
    moment: int | None


class Snapshot(NamedTuple):
    at: int
    seen: int
    until: int | None


class Asked(NamedTuple):
    key: Key
    at: int
    label: str | None


class Case(NamedTuple):
    lookup: Lookup
    versions: list[Version]
    snapshots: list[Snapshot]
    spine: list[Asked]


FAR = 10**17
keys = st.tuples(st.sampled_from(["a", "b", "1", "11"]), st.sampled_from([1, 11, 111]))
times = st.integers(-3, 12) | st.sampled_from([-FAR, FAR])
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def versions(draw: st.DrawFn) -> list[Version]:
    """Versions as publishes bring them: of one key and T each publish has one; nothing is visible before its own time."""
    found: dict[tuple[Key, int, int], Version] = {}
    for _ in range(draw(st.integers(0, 25))):
        key, at, publish = draw(keys), draw(times), draw(st.integers(0, 4))
        flags = draw(st.sampled_from([0, 0, MODELLED, HELD, RETRACTED, HELD | MODELLED]))
        seen = max(at, draw(times))
        text, number, moment = draw(st.none() | st.text(max_size=3)), draw(numbers), draw(st.none() | st.integers(-99, 99))
        found[key, at, publish] = Version(key, seen, at, publish * 8 + flags, draw(st.none() | times), text, number, moment)
    return list(found.values())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(["windowed", "observation", "snapshot", "static"]))
    ttl = draw(st.sampled_from([0, 2, 5, FOREVER]))
    covered = draw(st.lists(st.tuples(times, times), max_size=4, unique_by=(lambda s: s[0], lambda s: s[1])))
    steps = tuple(zip(sorted(seen for seen, _ in covered), sorted(end for _, end in covered), strict=True))
    lookup = replace(PLAIN, kind=kind, ttl=ttl, steps=steps, falls_back=draw(st.booleans()), snapshots=-1 if kind == "snapshot" else None)
    taken = draw(st.lists(st.builds(Snapshot, times, times, st.none() | times), max_size=6)) if kind == "snapshot" else []
    taken = [Snapshot(one.at, max(one.at, one.seen), one.until) for one in taken]
    asked = st.builds(
        Asked, keys | st.sampled_from([(None, 1), ("a", None), (None, None), ("z", 7)]), times, st.none() | st.text(max_size=2)
    )
    return Case(lookup, draw(versions()), taken, draw(st.lists(asked, max_size=15)))


def table(case: Case, *, shuffled: Any = None, pieces: int = 1) -> pa.Table:
    """The rows of a task, in any order and in pieces."""
    rows: list[dict[str, Any]] = [{TAG: 0, "k0": a.key[0], "k1": a.key[1], AT: a.at, "text": a.label} for a in case.spine]
    rows += [
        {TAG: 1, "k0": v.key[0], "k1": v.key[1], AT: v.seen, TIME: v.at, ORDER: v.order, EMPTIES: v.empties, "text": v.text,
         "number": v.number, "moment": v.moment}
        for v in case.versions
    ]  # fmt: skip
    rows += [{TAG: -1, AT: s.seen, TIME: s.at, EMPTIES: s.until} for s in case.snapshots]
    if shuffled is not None:
        shuffled.shuffle(rows)
    size = max(1, -(-len(rows) // pieces))
    return pa.concat_tables([pa.Table.from_pylist(rows[n : n + size], schema=SCHEMA) for n in range(0, max(len(rows), 1), size)])


WORK = TaskWork({"label": "text"}, ())


def joined(case: Case, **how: Any) -> list[dict[str, Any]]:
    return worked(case, iter(table(case, **how).to_batches()))


def worked(case: Case, batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    """What a task finds of a case's rows that it gets."""
    run = kernel.work_of(replace(WORK, lookups=(case.lookup,)))
    return [row for batch in run(batches) for row in batch.to_pylist()]


# -------------------------------------------------------------------------------------------------------------------- the oracle


def holding(case: Case, asked: Asked) -> Version | None:
    """The version that holds: of those that are visible, that stand where rows fall back, the greatest (T, publish)."""
    seen = [v for v in case.versions if v.key == asked.key and v.seen <= asked.at]
    standing = [
        v for v in seen if not v.order & RETRACTED and not any(w.at == v.at and w.order >> 3 > v.order >> 3 for w in seen)
    ]  # fmt: skip
    return max((case.lookup.falls_back and standing) or seen, key=lambda v: (v.at, v.order), default=None)


def answer(case: Case, asked: Asked) -> dict[str, Any]:
    best = holding(case, asked)
    at = best.at if best else 0
    coverage = max((end for seen, end in case.lookup.steps if seen <= asked.at), default=NEVER)
    empties = best.empties if best and best.empties is not None else FOREVER
    if case.lookup.snapshots is not None:
        later = [s.at for s in case.snapshots if s.at > at and s.seen <= asked.at and (s.until is None or s.until > asked.at)]
        empties = min(later, default=FOREVER)
    holds = reading.conditions(
        Question(case.lookup.kind, asked.at, coverage, case.lookup.ttl), nobody=None in asked.key,
        absent=best is None or bool(best.order & RETRACTED), at=at, empties_at=empties, held=best is not None and bool(best.order & HELD),
    )  # fmt: skip
    number = holds.index(True)
    gives = CASES[number].given
    row = best if gives == "row" else None
    since = None if row is None or row.moment is None else reading.age(asked.at, row.moment)
    amount = 0.5 if gives == "empty" else row.number if row else None
    modelled = row is not None and bool(row.order & MODELLED)
    return {
        "label": asked.label, "value": row.text if row else None, "amount": amount, "since": since, "modelled": modelled, "case": number
    }  # fmt: skip


def sorted_rows(rows: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


# --------------------------------------------------------------------------------------------------------------------- the tests


@given(cases(), st.randoms(use_true_random=False), st.integers(1, 4), st.sampled_from([0, 1_000]))
@settings(max_examples=400, deadline=None)
def test_any_spine_sees_what_a_plain_loop_finds_in_whatever_order_rows_come(case: Case, shuffled: Any, pieces: int, in_turn: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel, "_IN_TURN", in_turn)
        found = joined(case, shuffled=shuffled, pieces=pieces)
    assert sorted_rows(found) == sorted_rows([answer(case, asked) for asked in case.spine])


def version(key: Key, at: int, text: str, *, seen: int | None = None, publish: int = 0, flags: int = 0) -> Version:
    return Version(key, at if seen is None else seen, at, publish * 8 + flags, None, text, 1.0, None)


COVERED = replace(PLAIN, steps=((-FAR, -FAR),))


def values(lookup: Lookup, found: list[Version], *spine: Asked) -> list[str | None]:
    """What the rows of a spine have, by their labels."""
    return [row["value"] for row in sorted(joined(Case(lookup, found, [], [*spine])), key=lambda row: str(row["label"]))]


def test_composite_keys_that_read_alike_when_joined_are_not_one() -> None:
    rows = [version(("1", 11), 1, "of (1, 11)"), version(("11", 1), 1, "of (11, 1)")]
    assert values(COVERED, rows, Asked(("1", 11), 5, "0"), Asked(("11", 1), 5, "1")) == ["of (1, 11)", "of (11, 1)"]


def test_rows_of_one_time_and_rows_that_come_twice_give_one_row() -> None:
    twice = version(("a", 1), 3, "later", publish=1)
    rows = [version(("a", 1), 3, "first"), twice, twice]
    assert values(COVERED, rows, Asked(("a", 1), 5, "0"), Asked(("a", 1), 5, "0")) == ["later", "later"]


def test_a_row_is_seen_at_its_very_time_and_not_a_microsecond_before() -> None:
    assert values(COVERED, [version(("a", 1), 3, "x")], Asked(("a", 1), 2, "0"), Asked(("a", 1), 3, "1")) == [None, "x"]


def test_a_whole_row_is_taken_though_it_has_nulls_where_an_older_one_has_values() -> None:
    rows = [version(("a", 1), 1, "old"), version(("a", 1), 2, "new")._replace(text=None)]
    assert values(COVERED, rows, Asked(("a", 1), 5, "0")) == [None]


def test_a_correction_of_an_older_row_that_is_known_later_does_not_hide_the_newer_row() -> None:
    rows = [version(("a", 1), 2, "newer"), version(("a", 1), 1, "corrected", seen=9, publish=1)]
    assert values(COVERED, rows, Asked(("a", 1), 10, "0")) == ["newer"]


def test_an_only_row_that_was_taken_back_leaves_the_one_before() -> None:
    rows = [version(("a", 1), 1, "before"), version(("a", 1), 2, "x"), version(("a", 1), 2, "gone", seen=4, publish=1, flags=RETRACTED)]
    asked = (Asked(("a", 1), 3, "0"), Asked(("a", 1), 4, "1"))
    assert values(replace(COVERED, falls_back=True), rows, *asked) == ["x", "before"]
    assert values(COVERED, rows, *asked) == ["x", None]


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 9)), min_size=1))
def test_places_are_sorted_by_digits_as_they_are_without(rows: list[tuple[int, int]]) -> None:
    code, seen = np.array(rows).T
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel, "_IN_TURN", 0)
        found = kernel._by_code(code, seen, code * 10 + seen)
    assert (code * 10 + seen)[found].tolist() == sorted(c * 10 + s for c, s in rows)


@pytest.mark.parametrize("keys", [40_000, 3])
def test_times_over_thousands_of_years_and_many_keys_stay_in_order(keys: int) -> None:
    rows = [version((str(n), 1), at, f"{n} at {at}") for n in range(keys) for at in (-FAR, FAR)][:80_000]
    spine = [Asked((str(n), 1), at, f"{n} at {at}") for n in range(0, keys, max(keys // 50, 1)) for at in (-FAR, FAR)]
    assert all(row["label"] == row["value"] for row in joined(Case(COVERED, rows, [], spine)))


def test_a_task_without_rows_of_the_spine_gives_nothing_and_one_without_versions_gives_its_rows() -> None:
    run = kernel.work_of(replace(WORK, lookups=(COVERED,)))
    without = Case(COVERED, [version(("a", 1), 1, "x")], [], [])
    assert list(run(iter(table(without).to_batches()))) == []
    assert list(run(iter([]))) == []
    [batch] = run(iter(table(Case(COVERED, [], [], [Asked(("a", 1), 5, "0")])).to_batches()))
    assert batch.select(["label", "value"]).to_pylist() == [{"label": "0", "value": None}]


def test_nested_columns_and_long_text_come_out_in_the_types_in_which_they_came() -> None:
    rows = table(Case(COVERED, [version(("a", 1), 1, "x")], [], [Asked(("a", 1), 5, "0")]))
    nested = pa.array(
        [[{"a": 1}], None], pa.list_(pa.field("element", pa.struct([pa.field("a", pa.int32(), nullable=False)]), nullable=False))
    )
    work = TaskWork({"nested": "nested", "label": "text"}, (COVERED,))
    [batch] = kernel.batched(kernel.joined(rows.append_column("nested", nested), work))
    assert (batch.schema.field("nested").type, batch.schema.field("label").type) == (nested.type, pa.string())
    assert batch.column("nested").to_pylist() == [[{"a": 1}]]
