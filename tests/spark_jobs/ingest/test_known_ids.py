"""Ids are looked for in what is kept of them, not in old rows; what is kept is never believed beyond its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Source
from spark_jobs.ingest import known_ids, row_blocks, row_hashes
from spark_jobs.ingest.row_blocks import Room

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ORDERS = Source("orders", columns={"id": "string", "x": "int64"}, id=("id",), shape="static")


@pytest.fixture(autouse=True)
def files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_ids, "_SMALL", 0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, int]:
    named = {str(tmp_path / name): [*ids] for name, ids in (("a.parquet", "abc"), ("b.parquet", "xyz"), ("none.parquet", ""))}
    for path, ids in named.items():
        pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "x": pa.array([1] * len(ids), pa.int64())}), path)
    return dict.fromkeys(named, 1)


def hashes(ids: Iterable[str]) -> row_hashes.Hashes:
    return np.sort(row_hashes.of_columns([pa.array([*ids], pa.string())]))


def found(ids: str, files: dict[str, int], lake: Path) -> list[str]:
    return [path[-9:] for path in known_ids.files_with(hashes(ids), files, ORDERS, lake=str(lake), room=Room(str(lake)))]


def test_the_files_that_hold_an_id_are_found(files: dict[str, int], tmp_path: Path) -> None:
    assert found("cq", files, tmp_path / "lake") == ["a.parquet"]
    assert found("zzzzzzza", files, tmp_path / "lake") == ["a.parquet", "b.parquet"]
    assert found("q", files, tmp_path / "lake") == []
    assert found("", files, tmp_path / "lake") == []


def test_rows_are_read_once(files: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found("c", files, tmp_path / "lake")
    monkeypatch.setattr(row_blocks, "ids_of_table", pytest.fail)
    assert found("x", files, tmp_path / "lake") == ["b.parquet"]


def test_what_was_cut_off_is_made_again(files: dict[str, int], tmp_path: Path) -> None:
    found("c", files, tmp_path / "lake")
    for kept in (tmp_path / "lake").rglob("*.ids"):
        kept.write_bytes(kept.read_bytes()[:-8])
    assert found("cz", files, tmp_path / "lake") == ["a.parquet", "b.parquet"]


def test_what_is_kept_of_files_that_are_gone_goes_too(files: dict[str, int], tmp_path: Path) -> None:
    found("c", files, tmp_path / "lake")
    known_ids.forget(ORDERS, lake=str(tmp_path / "lake"), there=[next(iter(files))])
    assert len([*(tmp_path / "lake").rglob("*.ids")]) == 1
    other = Source("orders", columns={"id": "string", "x": "int64"}, id=("id", "x"), shape="static")
    known_ids.forget(other, lake=str(tmp_path / "lake"), there=files)
    assert not [*(tmp_path / "lake").rglob("*.ids")]


@given(known=st.lists(st.integers(0, 40), max_size=30), asked=st.lists(st.integers(0, 40), max_size=30))
def test_an_id_is_found_by_its_sieve_or_without_one(known: list[int], asked: list[int]) -> None:
    ids, others = (np.unique(np.array([each << 58 | each for each in some], np.uint64)) for some in (known, asked))
    kept = known_ids._read(np.frombuffer(known_ids._written(ids), np.uint64))
    assert kept is not None
    assert kept.sieve is not None
    expected = not set(known).isdisjoint(asked)
    assert (known_ids._has_any(kept, others), known_ids._has_any(known_ids._Known(ids), others)) == (expected, expected)
