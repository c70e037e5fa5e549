"""Two processes that commit to the same tables of a lake at once, as fast as they can.

`python -m tests.lake.racing LAKE NAME TABLES TIMES` prints the ids of what was acknowledged, one a line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import pyarrow as pa
from deltalake import Schema

from lake import delta, delta_commits, delta_files, storage

DAY = "2026-01-01"


def two(lake: str, *, tables: int, times: int) -> None:
    """Let two processes race, in so many tables so many times: every commit that was acknowledged is there, once."""
    from tests import projects

    environment = projects.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    words = [[sys.executable, "-m", "tests.lake.racing", lake, who, str(tables), str(times)] for who in ("one", "two")]
    both = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True, env=environment) for each in words]
    told = [line.split() for process in both for line in process.communicate(timeout=300)[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]

    appended = [row["id"] for row in delta.rows(records(lake), ["true"])]
    assert sorted(appended) == sorted(word for kind, word in told if kind == "record")
    # Each commit replaced what it had read by one more: had two read the same, one would be missing in the sum.
    assert [now(counter) for counter in counters(lake, tables)] == [2 * times] * tables
    opened = [delta.opened(counter) for counter in counters(lake, tables)]
    told_of = {word for kind, word in told if kind == "count"}
    assert len(told_of) == 2 * tables * times
    assert {word for table in opened for word in told_of if table.transaction_version(word) is not None} == told_of


COLUMNS = Schema.from_arrow(pa.schema([("n", pa.int64()), ("by", pa.string()), ("date", pa.string())])).to_json()


def counters(lake: str, rounds: int) -> list[str]:
    """Tables of one row each, which is replaced by every commit: several, since a table whose log is long costs many requests."""
    return [f"{lake}/features/counter_{number}/g1" for number in range(rounds)]


def records(lake: str) -> str:
    """A table of records, to which both append."""
    return f"{lake}/records/facts"


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
        old = delta_files.in_partitions(table, {DAY})
        n, commit_id = (_held(path, old[0].path) + 1 if old else 1), uuid.uuid4().hex
        run = f"{path}/hw_run={commit_id}"
        body = pa.BufferOutputStream()
        pq.write_table(pa.table({"n": [n], "by": [who]}), body)
        storage.write(f"{run}/date={DAY}/part-0.parquet", body.getvalue().to_pybytes())
        new, _ = delta_files.added(path, run)
        try:
            delta_commits.commit(table, days={DAY}, old=old, new=new, commit_id=commit_id)
        except delta_commits.CommitConflict:
            continue
        return commit_id


def _held(path: str, file: str) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_table(pa.BufferReader(storage.read(f"{path}/{file}"))).column("n")[0].as_py())


def main(lake: str, who: str, rounds: int, times: int) -> None:
    """Begin each table at the same time as the other does, commit to it so many times, and tell of all that was acknowledged."""
    for counter in counters(lake, rounds):
        record = uuid.uuid4().hex
        delta_commits.append_records(records(lake), pa.table({"id": [record]}))
        print("record", record, flush=True)
        delta_commits.create(counter, COLUMNS, partition=("date",))
        for _ in range(times):
            print("count", count(counter, who), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
