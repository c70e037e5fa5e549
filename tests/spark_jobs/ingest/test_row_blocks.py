"""Rows are kept in memory while they are few, else in files that take memory only as long as somebody looks at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_definitions.layout import FILE
from spark_jobs.ingest import row_blocks
from spark_jobs.ingest.row_blocks import ID, Block, Room

ROWS = 2**21


def held() -> int:
    """How many bytes of files are in this process's memory."""
    told = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in told if line.startswith("RssFile:"))


def test_what_a_file_holds_goes_out_of_memory_once_it_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "_MEMORY", 0)
    kept = Room(str(tmp_path)).kept(pa.table({ID: pa.array(np.arange(ROWS, dtype=np.uint64))}))
    block = Block.coming(kept.rows, file=kept.file)
    before = held()
    total = int(block.numbers(ID).sum())
    assert held() - before > 7 * ROWS
    block.released()
    assert held() - before < ROWS
    assert int(block.numbers(ID).sum()) == total == ROWS * (ROWS - 1) // 2


def test_what_is_the_same_of_all_rows_takes_no_memory() -> None:
    for mask in (np.ones(5, np.bool_), np.zeros(5, np.bool_)):
        assert row_blocks.even(mask).strides == (0,)
        assert row_blocks.even(mask).tolist() == mask.tolist()
    mixed = np.array([True, False])
    assert row_blocks.even(mixed) is mixed


def test_a_file_of_this_machine_is_read_and_written_in_its_place(tmp_path: Path) -> None:
    room = Room(str(tmp_path))
    assert (room.near(["/lake/a.parquet"]), room.written("/lake/run")) == ({"/lake/a.parquet": "/lake/a.parquet"}, "/lake/run")


def blocks_of(ids: list[list[int]], files: list[list[str]]) -> list[Block]:
    tables = [pa.table({FILE: pa.array(names, pa.string()).dictionary_encode()}) for names in files]
    hashed = [np.array([each << 58 | each for each in mine], np.uint64) for mine in ids]
    return [Block.coming(row_blocks.with_ids(rows, mine)) for rows, mine in zip(tables, hashed, strict=True)]


IDS, NAMES = [[7, 1, 60, 33, 1], [63, 0, 7]], [["a", "b", "b", "a", "b"], ["b", "a", "b"]]


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_ids_come_in_order_however_many_are_looked_at_together(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "AT_ONCE", at_once)
    blocks = blocks_of(IDS, NAMES)
    found = Room(str(tmp_path)).in_order(blocks)
    assert (found & np.uint64(63)).tolist() == sorted(IDS[0] + IDS[1])
    count = row_blocks.parts(blocks)
    parts = [block.ids(part, count) for part in range(count) for block in blocks]
    assert sorted(int(each) & 63 for part in parts for each in part.hashes) == sorted(IDS[0] + IDS[1])


def test_rows_of_some_files_alone_have_their_own_ids() -> None:
    for block, ids, names in zip(blocks_of(IDS, NAMES), IDS, NAMES, strict=True):
        hashes, places = block.only({"b"}).ids()
        mine = [each for each, name in zip(ids, names, strict=True) if name == "b"]
        assert {int(place): int(each) & 63 for each, place in zip(hashes, places, strict=True)} == dict(enumerate(mine))
