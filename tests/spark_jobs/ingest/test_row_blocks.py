"""Rows are kept in memory while they are few, else in files that take memory only as long as somebody looks at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

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
