"""The rows that files brought, without Spark: good ones in blocks, refused ones in a file, with how many there are for which reason."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_definitions.language import Source
from feature_definitions.layout import FILE, LINE, REASON
from feature_definitions.sql import plain
from lake.joined import Unlike
from spark_jobs import workers
from spark_jobs.ingest import row_blocks, sure_rows
from spark_jobs.ingest.row_blocks import Block, Room
from spark_jobs.ingest.update import RowsSeen

_ENOUGH = 32 * 2**20
"""Rows of so many bytes are a block."""


@dataclass(frozen=True, slots=True)
class RowsBrought:
    """The rows that files brought: good ones in blocks, the others in a file, if there are any."""

    seen: RowsSeen
    blocks: tuple[Block, ...] = ()
    bad: str | None = None

    def of(self, names: Collection[str]) -> list[Block]:
        """The good rows of some files."""
        return [block.only(names) for block in self.blocks]


def rows(batches: Iterator[pa.RecordBatch], source: Source, room: Room, *, bad: str) -> RowsBrought:
    """Rows that were read; those that are refused are written to the file `bad`. Raises Unlike if others are not surely taken."""
    aside, blocks, demands = _Aside(bad), list[Block](), plain.demands(source)
    counts: dict[str, Counter[str]] = {}
    refused: dict[str, str] = {}
    for read in workers.gathered(batches, size=lambda batch: int(batch.nbytes), enough=_ENOUGH):
        good = pc.is_null(read.column(REASON))
        taken = read.filter(good).select([*source.columns, FILE, LINE])
        if demands is None or not sure_rows.are_taken(taken, demands):
            raise Unlike(source.name)
        for each in taken.column(FILE).value_counts().to_pylist():
            counts.setdefault(each["values"], Counter())[""] += each["counts"]
        if taken.num_rows:
            kept = room.kept(row_blocks.dated(taken, source))
            blocks.append(Block.coming(kept.rows, file=kept.file))
        others = read.filter(pc.invert(good))
        for each in others.group_by([FILE, REASON]).aggregate([([], "count_all")]).to_pylist():
            counts.setdefault(each[FILE], Counter())[each[REASON]] += each["count_all"]
        whole = others.filter(pc.equal(others.column(LINE), 0))
        refused |= dict(zip(whole.column(FILE).to_pylist(), whole.column(REASON).to_pylist(), strict=True))
        aside.write(others)
    aside.close()
    return RowsBrought(RowsSeen(counts, refused), tuple(blocks), bad if aside.is_begun else None)


class _Aside:
    """A file of rows, which is begun with the first ones."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    @property
    def is_begun(self) -> bool:
        return self._writer is not None

    def write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, rows.schema)
        self._writer.write_table(rows)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
