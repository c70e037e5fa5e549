"""Parcels hold the rows of one task each, no more bytes than one may have, and come out as what went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.training import hot, parcels
from spark_jobs.training.kernel import AT, ORDER, TAG, TIME
from spark_jobs.training.parcels import PART, Kind, Spread

if TYPE_CHECKING:
    import pytest

SPREAD = Spread(("k",), 4, {})


def rows(count: int, **more: pa.Array) -> pa.Table:
    return pa.table({"k": np.arange(count) % 11, AT: np.arange(count), **more})


def test_the_rows_of_a_key_come_out_in_the_one_task_that_their_hash_tells() -> None:
    asked = rows(200, label=pa.array([f"text {n}" for n in range(200)]))
    sent = [*parcels.packed(asked, SPREAD, Kind(asks=True)), *parcels.packed(rows(300), SPREAD, Kind())]
    found = []
    for part in range(4):
        mine = pa.Table.from_batches([*parcels.opening({})(batch.filter(pc.equal(batch.column(PART), part)) for batch in sent)])
        assert set((hot.hashes(mine, ["k"]).view(np.uint64) % np.uint64(4)).tolist()) == {part}
        found.append(mine)
    assert sorted(pa.concat_tables(found)["label"].drop_null().to_pylist()) == sorted(asked["label"].to_pylist())
    assert sum(len(each) for each in found) == 500


RUN = st.sampled_from([1, 1, 2, 60])


@given(st.lists(st.tuples(RUN, st.integers(-3, 3), st.integers(0, 3), st.booleans()), max_size=12), st.integers(0, 2**62), st.booleans())
def test_rows_come_out_as_they_went_in_whatever_many_in_turn_have_alike(
    runs: list[tuple[int, int, int, bool]], start: int, whole: bool
) -> None:
    times = [(start + n * varies, later, order) for length, later, order, varies in runs for n in range(length)]
    columns = {
        "k": [order for _, _, order in times],
        AT: [at + later for at, later, _ in times],
        TIME: [at if whole or later else None for at, later, _ in times],
        ORDER: [order for _, _, order in times],
    }
    sent = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})
    [*opened] = parcels.opening({})(parcels.packed(sent, Spread(("k",), 1, {}), Kind(asks=True)))
    found = pa.Table.from_batches(opened, None if opened else sent.schema)
    assert found.select(sent.column_names).to_pylist() == sent.to_pylist()


def test_what_many_rows_in_turn_have_alike_is_said_once() -> None:
    at = pa.array(np.random.default_rng(1).integers(0, 2**50, 10_000))
    versions = {TIME: at, AT: pc.add(at, 1), ORDER: pa.array([12] * 10_000), TAG: pa.array([3] * 10_000, pa.int32())}
    [batch] = parcels.packed(pa.table({"k": at, **versions}), Spread(("k",), 1, {}), Kind())
    assert batch.column("_hw_rows").nbytes < 10_000 * 17


def test_a_task_of_which_no_row_asks_opens_nothing() -> None:
    assert [*parcels.opening({})(parcels.packed(rows(20), SPREAD, Kind()))] == []


def test_a_column_that_no_row_of_a_task_has_is_null_in_all() -> None:
    sent = parcels.packed(rows(3), SPREAD, Kind(asks=True))
    found = pa.Table.from_batches([*parcels.opening({"value": pa.list_(pa.float64())})(sent)])
    assert found["value"].to_pylist() == [None] * 3


def test_rows_of_keys_that_are_not_asked_are_left_out_but_none_that_ask() -> None:
    asked = pa.array(np.unique(hot.hashes(rows(3), ["k"])))
    spread = Spread(("k",), 1, {}, asked)
    sent = [*parcels.packed(rows(11), spread, Kind(asks=True)), *parcels.packed(rows(110), spread, Kind())]
    assert sum(batch.num_rows for batch in parcels.opening({})(iter(sent))) == 11 + 30


def test_a_parcel_has_no_more_bytes_than_one_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "_LARGEST", 4_000)
    monkeypatch.setattr(parcels, "_TOGETHER", 10_000)
    sent = [*parcels.packed(rows(5_000), SPREAD, Kind(asks=True))]
    sizes = [len(each.as_py()) for batch in sent for each in batch.column("_hw_rows")]
    assert len(sent) > 4
    assert max(sizes) < 5_000
    assert sum(batch.num_rows for batch in parcels.opening({})(iter(sent))) == 5_000


def test_of_long_rows_a_batch_of_ten_thousand_parcels_is_no_more_than_an_arrow_column_holds() -> None:
    [batch] = parcels.packed(rows(4_000, text=pa.array(["x" * 1_000] * 4_000)), Spread(("k",), 1, {}), Kind())
    assert 20 < batch.num_rows < 30
    assert max(len(each.as_py()) for each in batch.column("_hw_rows")) * 10_000 < 2**31
    [batch] = parcels.packed(rows(40_000, text=pa.array(["x" * 100] * 40_000)), Spread(("k",), 1, {}), Kind())
    assert batch.num_rows == 1


def test_rows_that_go_everywhere_come_to_each_task() -> None:
    [batch] = parcels.packed(rows(5), SPREAD, Kind(everywhere=True))
    assert batch.column(PART).to_pylist() == [0, 1, 2, 3]
