"""A process that commits to two tables of a lake, as fast as it can, against another one that does the same.

`python -m tests.lake.racing LAKE NAME TIMES` prints the ids of what was acknowledged, one a line.
"""

from __future__ import annotations

import sys
import uuid

import pyarrow as pa

from lake import delta, storage

DAY = "2026-01-01"


def tables(lake: str) -> tuple[str, str]:
    """A table of records, and one of a counter, whose one row is replaced by each commit."""
    return f"{lake}/records/facts", f"{lake}/features/counter/g1"


def made(lake: str) -> None:
    """Both tables, the counter at nought."""
    records, counter = tables(lake)
    delta.append_records(records, pa.table({"id": ["first"]}))
    columns = delta.Schema.from_arrow(pa.schema([("n", pa.int64()), ("by", pa.string()), ("date", pa.string())])).to_json()
    delta.create(counter, columns, partition=("date",))
    count(counter, "nobody")


def now(path: str) -> int | None:
    """What the counter is at."""
    rows = delta.rows(path, ["true"])
    assert len(rows) <= 1, rows
    return rows[0]["n"] if rows else None


def count(path: str, who: str) -> str:
    """Replace the counter's row by one that is greater by one, as a publish replaces an interval; the id of the commit."""
    import pyarrow.parquet as pq

    while True:
        table = delta.opened(path)
        old = delta.in_partitions(table, {DAY})
        n, commit_id = (_held(path, old[0].path) + 1 if old else 0), uuid.uuid4().hex
        run = f"{path}/hw_run={commit_id}"
        body = pa.BufferOutputStream()
        pq.write_table(pa.table({"n": [n], "by": [who]}), body)
        storage.write(f"{run}/date={DAY}/part-0.parquet", body.getvalue().to_pybytes())
        new, _ = delta.added(path, run)
        try:
            delta.commit(table, days={DAY}, old=old, new=new, commit_id=commit_id)
        except delta.CommitConflict:
            continue
        return commit_id


def _held(path: str, file: str) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_table(pa.BufferReader(storage.read(f"{path}/{file}"))).column("n")[0].as_py())


def main(lake: str, who: str, times: int) -> None:
    """Commit to both, so many times, and tell of each commit that was acknowledged."""
    records, counter = tables(lake)
    for _ in range(times):
        record = uuid.uuid4().hex
        delta.append_records(records, pa.table({"id": [record]}))
        print("record", record, flush=True)
        print("count", count(counter, who), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
