"""Keys that are cut by time: whatever is sampled, each stretch gets the versions that count in it, and tasks give what one would."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_definitions.reading import NEVER
from spark_jobs.training import hot, kernel, parcels
from spark_jobs.training.hot import HASH, Copied, CutKey
from spark_jobs.training.kernel import AT, TAG, TIME
from spark_jobs.training.parcels import Kind, Spread
from tests.spark_jobs.training.test_kernel import Case, cases, joined, table, worked

KEYS = ("k0", "k1")


def sample(*rows: tuple[int, int, str, int, int | None]) -> pa.Table:
    """Rows of a sample: hash, tag, key, since when it is visible (or asks), T."""
    names, kinds = (HASH, TAG, "key", AT, TIME), (pa.int64(), pa.int32(), pa.string(), pa.int64(), pa.int64())
    return pa.table([pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)], names=names)


def test_a_key_is_cut_into_stretches_of_as_many_rows_as_the_bound() -> None:
    whole, large, small = ([(known, 0, f"k{known}", at, None) for at in range(10, 10 + rows)] for known, rows in ((5, 4), (3, 18), (4, 8)))
    found = hot.cut(sample(*whole, *large, *small), ["key"], bound=4)
    assert {known: (one.first, one.begins, one.key) for known, one in found.items()} == {
        3: (0, (13, 17, 20, 24), ("k3",)),
        4: (5, (14,), ("k4",)),
    }


def test_rows_of_one_time_cannot_be_cut() -> None:
    assert hot.cut(sample(*[(5, 0, "a", 7, None)] * 30), ["key"], bound=10) == {}


def test_a_cut_tells_the_greatest_time_of_each_groups_versions_of_its_key_before_each_stretch() -> None:
    versions = [(5, 1, "a", 1, 1), (5, 1, "a", 3, 0), (5, 1, "a", 5, 5), (5, 2, "a", 4, 4), (5, 1, "b", 2, 2), (5, 1, "a", 6, 2)]
    [one] = hot.cut(sample(*versions), ["key"], bound=2).values()
    assert (one.begins, one.newest) == ((3, 5), {1: (1, 1), 2: (NEVER, 4)})


def tasks_of(rows: pa.Table, cuts: hot.CutKeys, copied: Copied | None) -> list[set[int]]:
    """The tasks, of a hundred, that each row goes to."""
    found = hot.placed(rows, rows[HASH].to_numpy(), cuts, parts=100, copied=copied)
    return [set(found.part[found.where == place].tolist()) for place in range(rows.num_rows)]


def test_a_row_of_a_cut_key_goes_to_its_stretch_and_a_version_to_the_later_ones_where_no_newer_one_is_known() -> None:
    cuts = {5: CutKey(7, (10, 20), ("a",), {1: (4, 9)})}
    rows = sample((5, 1, "a", 3, 3), (5, 1, "a", 8, 9), (5, 1, "b", 3, 3), (5, 1, "a", 10, 10), (6, 1, "c", 3, 3))
    assert tasks_of(rows, cuts, Copied(1, ["key"], falls_back=False)) == [{7}, {7, 8, 9}, {7, 8, 9}, {8, 9}, {6}]
    assert tasks_of(rows, cuts, None) == [{7}, {7}, {7}, {8}, {6}]


def test_where_readers_fall_back_no_version_is_left_out() -> None:
    rows = sample((5, 1, "a", 3, 3))
    assert tasks_of(rows, {5: CutKey(0, (10,), ("a",), {1: (7,)})}, Copied(1, ["key"], falls_back=True)) == [{0, 1}]


def test_rows_of_nobody_go_to_many_tasks() -> None:
    rows = pa.table({"k": pa.nulls(200, pa.int64()), AT: np.arange(200)})
    assert len(set((hot.hashes(rows, ["k"]) % 7).tolist())) == 7


# ------------------------------------------------------------------------------------------------------- tasks beside one task


def alike(rows: pa.Table, _: Any) -> kernel.Numbers:
    """One hash for all keys."""
    return np.zeros(rows.num_rows, np.int64)


def in_tasks(case: Case, *, drawn: pa.Array, bound: int, asked: bool) -> list[dict[str, Any]]:
    """What tasks find that get the parcels of a case's rows, its keys cut as a sample tells."""
    rows = table(case)
    found = rows.append_column(HASH, pa.array(hot.hashes(rows, KEYS)))
    sampled = found.filter(drawn)
    for key in KEYS:
        sampled = sampled.filter(sampled[key].is_valid())
    cuts = hot.cut(sampled, KEYS, bound=bound)
    of = {tag: rows.filter(pc.equal(rows[TAG], tag)) for tag in (0, 1, -1)}
    hashes = pa.array(np.unique(hot.hashes(of[0], KEYS))) if asked else None
    spread = Spread(KEYS, 3, cuts, hashes)
    kinds = {0: Kind(asks=True), 1: Kind(copied=Copied(1, KEYS, case.lookup.falls_back)), -1: Kind(everywhere=True)}
    sent = [batch for tag, kind in kinds.items() for batch in parcels.packed(of[tag], spread, kind)]
    return [row for part in range(3) for row in worked(case, parcels.opening({})(iter(arrived(sent, part))))]


def arrived(sent: list[pa.RecordBatch], part: int) -> list[pa.RecordBatch]:
    """The parcels for one task."""
    return [batch.filter(pc.equal(batch.column(parcels.PART), part)) for batch in sent]


@given(cases(), st.randoms(use_true_random=False), st.integers(1, 5), st.sampled_from([hot.hashes, alike]), st.booleans())
@settings(max_examples=250, deadline=None)
def test_however_rows_are_spread_and_keys_are_cut_tasks_find_what_one_task_finds(
    case: Case, random: Any, bound: int, hashes: Any, asked: bool
) -> None:
    count = len(case.spine) + len(case.versions) + len(case.snapshots)
    drawn = pa.array([random.random() < 0.6 for _ in range(count)], pa.bool_())
    with mock.patch.object(hot, "hashes", hashes):
        found = in_tasks(case, drawn=drawn, bound=bound, asked=asked)
    assert sorted(map(repr, found)) == sorted(map(repr, joined(case)))
