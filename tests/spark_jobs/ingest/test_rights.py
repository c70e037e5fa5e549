"""Of the rows with one id one holds, whatever blocks they lie in, and whatever other ids share their hash."""

from __future__ import annotations

from typing import NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Source
from feature_definitions.layout import FILE, INGEST, LINE
from spark_jobs.ingest import rights, row_blocks
from spark_jobs.ingest.row_blocks import Block

SOURCE = Source("orders", columns={"id": "string", "arrived": "timestamp"}, id=("id",), arrived_at="arrived", shape="static")
NOW = 7
"""The number of the ingest that brings rows."""


class Row(NamedTuple):
    """A row that comes, or was there and may go."""

    id: str | None
    arrived: int | None
    file: str
    line: int
    ingest: int
    comes: bool
    goes: bool
    held: bool

    @property
    def order(self) -> tuple[object, ...]:
        """The greatest holds."""
        return not self.goes, -1 if self.arrived is None else self.arrived, NOW if self.comes else self.ingest, self.file, self.line


def expected(rows: list[Row]) -> list[bool]:
    """Which rows hold, by the rule as it is written."""
    found = []
    for row in rows:
        rivals = [each for each in rows if row.id is not None and each.id == row.id]
        touched = any(each.comes or each.goes for each in rivals)
        held = row.comes or row.held
        found.append(not row.goes and (row.order == max(each.order for each in rivals) if touched else held))
    return found


def block(rows: list[Row], hashes: dict[str | None, int]) -> Block:
    """Rows as a block; all of them come, or none does."""
    columns = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "arrived": pa.array([row.arrived for row in rows], pa.timestamp("us", "UTC")),
        FILE: pa.array([row.file for row in rows]).dictionary_encode(),
        LINE: pa.array([row.line for row in rows]),
        INGEST: pa.array([row.ingest for row in rows]),
    }
    made = Block.coming(row_blocks.with_ids(pa.table(columns), np.array([hashes[row.id] for row in rows], np.uint64)))
    made.comes = rows[0].comes
    made.goes, made.held = (np.array([getattr(row, name) for row in rows]) for name in ("goes", "held"))
    return made


@st.composite
def parts(draw: st.DrawFn) -> list[list[Row]]:
    """Blocks of rows; no two rows have one place."""
    found, line = list[list[Row]](), 0
    for _ in range(draw(st.integers(1, 4))):
        comes, rows = draw(st.booleans()), list[Row]()
        for _ in range(draw(st.integers(1, 5))):
            line += 1
            goes = not comes and draw(st.booleans())
            one_id = draw(st.sampled_from("abc" if comes else ["a", "b", "c", None]))
            arrived, ingest = draw(st.sampled_from([None, 1, 2])), draw(st.integers(1, 3))
            rows.append(Row(one_id, arrived, draw(st.sampled_from("fg")), line, ingest, comes, goes, held=draw(st.booleans())))
        found.append(rows)
    return found


@given(drawn=parts(), shared=st.booleans(), at_once=st.sampled_from((2, 1000)))
def test_the_newest_row_of_an_id_that_is_touched_holds(drawn: list[list[Row]], shared: bool, at_once: int) -> None:
    hashes = {one: 5 if shared else number << 62 for number, one in enumerate(["a", "b", "c", None])}
    blocks = [block(rows, hashes) for rows in drawn]
    with mock.patch.object(row_blocks, "AT_ONCE", at_once):
        rights.judge(blocks, SOURCE, NOW)
    assert [bool(live) for each in blocks for live in each.live] == expected([row for rows in drawn for row in rows])
