"""Ids are looked for in what is kept of them, not in old rows; what is kept is never believed beyond its file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_definitions import Source
from lake import storage
from spark_jobs.ingest import known_ids, row_blocks, row_hashes
from spark_jobs.ingest.row_blocks import Room

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.s3 import Server

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


def found(ids: str, files: dict[str, int], lake: Path, there: Iterable[str] = ()) -> list[str]:
    room = Room(str(lake))
    lake.mkdir(exist_ok=True)
    return sorted(
        Path(each).name for each in known_ids.files_with(hashes(ids), files, ORDERS, there={*files, *there}, lake=str(lake), room=room)
    )


def indexes(lake: Path) -> list[Path]:
    return [*lake.rglob("*.ids")]


def test_the_files_that_hold_an_id_are_found(files: dict[str, int], tmp_path: Path) -> None:
    for _ in range(2):
        assert found("cq", files, tmp_path / "lake") == ["a.parquet"]
        assert found("zzzzzzza", files, tmp_path / "lake") == ["a.parquet", "b.parquet"]
        assert found("q", files, tmp_path / "lake") == []
        assert found("", files, tmp_path / "lake") == []


def test_indexes_of_a_lake_on_s3_lie_there(files: dict[str, int], tmp_path: Path, moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    moto.bucket("files")
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    for first, *others in (files, [*files][::-1]):
        for some in ([first], others):
            lake, room = "s3a://files/lake", Room(str(tmp_path))
            hit = known_ids.files_with(hashes("az"), dict.fromkeys(some, 1), ORDERS, there=files, lake=lake, room=room)
            assert hit == {path for path in some if not path.endswith("none.parquet")}
    assert len(storage.files("s3a://files/lake/ids/orders")) == 1


def test_files_that_are_not_asked_for_are_not_found(files: dict[str, int], tmp_path: Path) -> None:
    found("a", files, tmp_path / "lake")
    first, *others = files
    assert found("az", dict.fromkeys(others, 1), tmp_path / "lake", there=[first]) == ["b.parquet"]


def test_rows_are_read_once(files: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found("c", files, tmp_path / "lake")
    monkeypatch.setattr(row_blocks, "ids_of_table", pytest.fail)
    assert found("x", files, tmp_path / "lake") == ["b.parquet"]


def test_of_small_files_nothing_is_kept(files: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_ids, "_SMALL", 4)
    assert (found("c", files, tmp_path / "lake"), indexes(tmp_path)) == (["a.parquet"], [])


@pytest.mark.parametrize("length", [8, 20, -8])
def test_what_was_cut_off_is_made_again(files: dict[str, int], tmp_path: Path, length: int) -> None:
    found("c", files, tmp_path / "lake")
    for kept in indexes(tmp_path):
        kept.write_bytes(kept.read_bytes()[:length])
    assert found("cz", files, tmp_path / "lake") == ["a.parquet", "b.parquet"]
    assert len(indexes(tmp_path)) == 1


def test_what_is_kept_of_another_definition_of_the_id_is_deleted(files: dict[str, int], tmp_path: Path) -> None:
    found("c", files, tmp_path / "lake")
    before = indexes(tmp_path)
    other = Source("orders", columns={"id": "string", "x": "int64"}, id=("id", "x"), shape="static")
    known_ids.files_with(hashes("c"), files, other, there=files, lake=str(tmp_path / "lake"), room=Room(str(tmp_path)))
    assert (len(indexes(tmp_path)), set(before) & set(indexes(tmp_path))) == (1, set())


@pytest.mark.parametrize("first", [5, 1], ids=["all alike", "the first a small one"])
def test_however_many_files_come_one_by_one_a_few_indexes_hold_their_ids(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_blocks, "ids_of_table", lambda path, _: hashes(f"{path}{n}" for n in range(5 if path != "0" else first)))
    files, most, written = dict[str, int](), 0, 0
    for number in range(40):
        files[str(number)], before = 1, indexes(tmp_path)
        assert found("", files, tmp_path / "lake") == []
        most = max(most, len(indexes(tmp_path)))
        written += sum(path.stat().st_size for path in indexes(tmp_path) if path not in before)
    assert most <= 4
    assert written < 10 * sum(path.stat().st_size for path in indexes(tmp_path))


def test_what_is_mostly_of_files_that_are_gone_is_written_anew(files: dict[str, int], tmp_path: Path) -> None:
    found("c", files, tmp_path / "lake")
    (before,) = indexes(tmp_path)
    size, (a, _, none) = before.stat().st_size, files
    found("", {a: 1}, tmp_path / "lake", there=[none])
    assert indexes(tmp_path) == [before]
    found("", {none: 1}, tmp_path / "lake")
    (now,) = indexes(tmp_path)
    assert (now != before, now.stat().st_size < size) == (True, True)


def test_what_is_of_files_that_are_all_gone_is_deleted(files: dict[str, int], tmp_path: Path) -> None:
    found("c", files, tmp_path / "lake")
    found("", {}, tmp_path / "lake", there=["other"])
    assert indexes(tmp_path) == []


def test_an_index_whose_joining_was_cut_off_counts_once(files: dict[str, int], tmp_path: Path) -> None:
    first, *others = files
    found("c", {first: 1}, tmp_path / "lake")
    left = {path: path.read_bytes() for path in indexes(tmp_path)}
    found("c", dict.fromkeys(others, 1), tmp_path / "lake", there=[first])
    for path, content in left.items():
        path.write_bytes(content)
    assert found("ax", files, tmp_path / "lake") == ["a.parquet", "b.parquet"]
    assert found("ax", files, tmp_path / "lake") == ["a.parquet", "b.parquet"]
    assert len(indexes(tmp_path)) == 1


@settings(max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 40), max_size=8)), st.sets(st.integers(0, 40))), max_size=6
    ),
    alike=st.sampled_from((0, 1, 4)),
)
def test_whatever_files_come_and_go_those_that_hold_an_id_are_found(steps: list[tuple[dict[int, list[int]], set[int]]], alike: int) -> None:
    def spread(numbers: Iterable[int]) -> row_hashes.Hashes:
        return np.array(sorted(each * (2**64 // 41) for each in numbers), np.uint64)

    held = dict[str, list[int]]()
    with TemporaryDirectory() as lake, ExitStack() as small:
        for name, value in (("_MADE_AT_ONCE", 4), ("_JOINED_AT_ONCE", 8), ("_ALIKE", alike), ("_SMALL", 2)):
            small.enter_context(mock.patch.object(known_ids, name, value))
        small.enter_context(mock.patch.object(row_blocks, "ids_of_table", lambda path, _: spread(held[path])))
        for number, (changed, asked) in enumerate(steps):
            there = {path: ids for path, ids in held.items() if int(path.partition("-")[0]) not in changed}
            held |= (new := {f"{file}-{number}": ids for file, ids in changed.items() if ids})
            there |= new
            sizes = dict.fromkeys(there, 1)
            hit = known_ids.files_with(spread(asked), sizes, ORDERS, there=there, lake=lake, room=Room(lake))
            assert hit == {path for path, ids in there.items() if asked & {*ids}}
            held = there
