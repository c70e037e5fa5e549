"""What can be told of a table at once: rows that a condition holds for, files and bytes of its dates."""

from __future__ import annotations

import weakref
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Schema, TableFeatures, write_deltalake

from feature_definitions.intervals import Interval
from lake import delta
from lake.delta import footprint

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_files_of_the_dates_are_counted_with_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for days in ((5, 6), (6, 7)):
        rows = pa.table({"x": [1, 2], "day": [date(2026, 1, n) for n in days]})
        write_deltalake(path, rows, mode="append", partition_by=["day"])
    on_disk = [file.stat().st_size for file in path.glob("day=2026-01-06/*.parquet")]
    assert footprint(str(path), partition="day", dates={date(2026, 1, 6)}) == (2, sum(on_disk))
    assert footprint(str(path), partition="day", dates={date(2026, 1, n) for n in range(1, 31)})[0] == 4
    assert footprint(str(path), partition="day", dates=set()) == (0, 0)


def test_files_that_were_replaced_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for _ in range(2):
        write_deltalake(path, pa.table({"x": [1], "day": [date(2026, 1, 5)]}), mode="overwrite", partition_by=["day"])
    assert footprint(str(path), partition="day", dates={date(2026, 1, 5)})[0] == 1


def test_a_table_without_that_partition_is_read_whole_and_one_that_is_not_there_not_at_all(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "plain", pa.table({"x": [1]}))
    assert footprint(str(tmp_path / "plain"), partition="day", dates={date(2026, 1, 5)})[0] == 1
    assert footprint(str(tmp_path / "none"), partition="day", dates={date(2026, 1, 5)}) == (0, 0)


def test_the_rows_of_dates_are_counted_by_the_log(tmp_path: Path) -> None:
    days = [date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 2), date(2026, 1, 3)]
    write_deltalake(tmp_path / "dated", pa.table({"date": pa.array(days, pa.date32()), "n": range(4)}), partition_by=["date"])
    write_deltalake(tmp_path / "plain", pa.table({"n": range(4)}))
    asked = [(None, None), (date(2026, 1, 2), None), (None, date(2026, 1, 1)), (date(2026, 1, 4), None)]
    assert [delta.rows_in(str(tmp_path / "dated"), first=first, last=last) for first, last in asked] == [4, 3, 1, 0]
    assert [delta.rows_in(str(tmp_path / name), first=days[1], last=days[1]) for name in ("plain", "none")] == [4, 0]
    whole, part, none = (delta.bytes_in(str(tmp_path / name), wanted=lambda day: day == days[1]) for name in ("plain", "dated", "none"))
    assert whole > part > none == 0
    assert sum(each.stat().st_size for each in (tmp_path / "dated").glob("*/*.parquet")) > part


def test_batches_of_many_files_are_held_one_at_a_time(tmp_path: Path) -> None:
    files, rows = 24, 50_000
    for number in range(files):
        values = range(number * rows, (number + 1) * rows)
        write_deltalake(tmp_path / "table", pa.table({"n": values, "m": values, "k": values}), mode="append")
    before, seen, most, held = pa.total_allocated_bytes(), 0, 0, list[weakref.ref[pa.RecordBatch]]()
    for batch in delta.batches(str(tmp_path / "table"), rows=10_000):
        held = [*(each for each in held if each() is not None), weakref.ref(batch)]
        seen, most = seen + batch.num_rows, max(most, pa.total_allocated_bytes() - before)
        assert (len(held) <= 2, batch.num_rows <= 10_000) == (True, True)
    assert seen == files * rows
    assert most < files * rows * 3 * 8 / 3


def test_rows_are_found_by_conditions_in_the_types_that_python_has(tmp_path: Path) -> None:
    at = datetime(2026, 1, 5, 3, 0, 0, 1, tzinfo=UTC)
    row = {"n": 1, "text": "it's", "at": at, "day": date(2026, 1, 5), "list": ["a"], "none": None, "flag": True}
    numbers, texts, times = {"n": pa.int64(), "none": pa.float64()}, {"text": pa.string()}, {"at": pa.timestamp("us", tz="UTC")}
    kinds = pa.schema(numbers | texts | times | {"day": pa.date32(), "list": pa.list_(pa.string()), "flag": pa.bool_()})
    write_deltalake(tmp_path / "table", pa.Table.from_pylist([row, row | {"n": 2, "text": "its"}], schema=kinds))
    values = {name: delta.literal(row[name]) for name in ("n", "text", "day", "flag")}
    for name, value in values.items():
        assert row in delta.rows(str(tmp_path / "table"), [f"{name} = {value}"])
    assert delta.rows(str(tmp_path / "table"), [f"{name} = {value}" for name, value in values.items()]) == [row]
    assert delta.rows(str(tmp_path / "table"), ["n = 3"]) == []
    assert delta.rows(str(tmp_path / "nowhere"), ["n = 1"]) == []


def events(*hours: int | None, zone: str | None = "UTC") -> pa.Table:
    """Rows at these hours of January, null among them."""
    at = [None if hour is None else datetime(2026, 1, 1 + hour // 24, hour % 24) for hour in hours]  # noqa: DTZ001  # the type has the zone
    return pa.table({"x": pa.array(range(len(at)), pa.int64()), "at": pa.array(at, pa.timestamp("us", zone))})


def day(n: int) -> Interval:
    return Interval(datetime(2026, 1, n, tzinfo=UTC), datetime(2026, 1, n + 1, tzinfo=UTC))


def test_the_log_says_in_which_dates_two_versions_differ(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    for hours in ((0, 23), (25, None), (72,)):
        write_deltalake(path, events(*hours), mode="append")
    DeltaTable(path).delete("at = arrow_cast('2026-01-01T23:00:00', 'Timestamp(Microsecond, Some(\"UTC\"))')")
    assert delta.times_changed(path, since=2, version=2, time="at") == ()
    assert delta.times_changed(path, since=1, version=2, time="at") == (day(4),)
    assert delta.times_changed(path, since=0, version=2, time="at") == (day(2), day(4))
    assert delta.times_changed(path, since=2, version=3, time="at") == (day(1),)


@pytest.mark.parametrize("rows", [events(None), events(1, zone=None)])
def test_a_file_without_times_or_with_local_ones_may_hold_any_date(tmp_path: Path, rows: pa.Table) -> None:
    write_deltalake(str(tmp_path), rows)
    write_deltalake(str(tmp_path), rows, mode="append")
    assert delta.times_changed(str(tmp_path), since=0, version=1, time="at") is None


def test_where_rows_are_deleted_without_new_files_the_log_does_not_tell(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), events(1), configuration={"delta.enableDeletionVectors": "true"})
    write_deltalake(str(tmp_path), events(2), mode="append")
    DeltaTable(str(tmp_path)).alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    assert delta.times_changed(str(tmp_path), since=0, version=DeltaTable(str(tmp_path)).version(), time="at") is None


def test_the_files_of_a_table_without_partitions_are_counted_by_their_times(tmp_path: Path) -> None:
    path = str(tmp_path)
    for hours in ((0, 30), (50,), (None,)):
        write_deltalake(path, events(*hours), mode="append")
    by_day = {n: delta.files_of(path, version=2, time="at", dates={date(2026, 1, n)})[0] for n in (1, 2, 3, 4)}
    assert by_day == {1: 2, 2: 2, 3: 2, 4: 1}
    assert delta.files_of(path, version=1, time=None, dates={date(2026, 1, 4)})[0] == 2
    assert delta.files_of(path, version=2, time=None, dates=set())[1] == sum(file.stat().st_size for file in tmp_path.glob("*.parquet"))


# ------------------------------------------------------------------------------------------------------------------------- fences


class LeaseLost(Exception):
    """What a fence raises in these tests."""


def dated(path: str) -> None:
    write_deltalake(path, pa.table({"x": [1], "date": ["2026-01-05"]}), partition_by=["date"])


def taken_out(path: str, *, commit_id: str, fence: delta.Fence | None) -> None:
    """Replace the table's only date by nothing."""
    table, days = DeltaTable(path), ["2026-01-05"]
    old = delta.in_partitions(table, days)
    delta.commit(table, days=days, old=old, new=[], commit_id=commit_id, fence=fence)


def test_a_writer_that_lost_its_lease_commits_nothing(tmp_path: Path) -> None:
    def lost() -> None:
        raise LeaseLost

    dated(str(tmp_path))
    with pytest.raises(LeaseLost):
        taken_out(str(tmp_path), commit_id="one", fence=lost)
    assert (DeltaTable(str(tmp_path)).version(), delta.committed(str(tmp_path), "one")) == (0, False)


def test_the_fence_is_asked_before_each_attempt_to_commit(tmp_path: Path) -> None:
    asked: list[int] = []

    def overtaken() -> None:
        asked.append(DeltaTable(str(tmp_path)).version())
        if len(asked) < 3:
            write_deltalake(str(tmp_path), pa.table({"x": [2], "date": ["2026-01-06"]}), mode="append")

    dated(str(tmp_path))
    taken_out(str(tmp_path), commit_id="one", fence=overtaken)
    assert asked == [0, 1, 2]
    assert delta.commit_of(str(tmp_path), "one")[0] == 3
    assert delta.load(str(tmp_path)).column("date").to_pylist() == ["2026-01-06", "2026-01-06"]


@pytest.mark.parametrize("sign", ["#", "?", "%", "{x}", "*", "ü "])
def test_a_commit_is_found_whatever_signs_the_path_has(tmp_path: Path, sign: str) -> None:
    path = str(tmp_path / f"a{sign}b")
    for number in (0, 1):
        write_deltalake(path, pa.table({"x": [number]}), mode="append", commit_properties=CommitProperties({"userMetadata": f"p{number}"}))
    assert delta.commit_of(path, "p0")[0] == 0
    assert delta.oldest_commit(path) == delta.commit_of(path, "p0")[1]
    with pytest.raises(LookupError, match="has no commit p2 in its log"):
        delta.commit_of(path, "p2")


def test_a_writer_that_was_stopped_after_its_last_look_at_the_lease_is_refused_once_its_table_was_fenced(tmp_path: Path) -> None:
    holder = ["writer"]

    def stopped_after_looking() -> None:
        if holder != ["writer"]:
            raise LeaseLost
        holder[0] = "another"
        delta.fence(str(tmp_path), "takeover")

    dated(str(tmp_path))
    with pytest.raises(LeaseLost):
        taken_out(str(tmp_path), commit_id="one", fence=stopped_after_looking)
    assert (delta.committed(str(tmp_path), "one"), delta.committed(str(tmp_path), "takeover")) == (False, True)
    assert delta.load(str(tmp_path)).num_rows == 1


def test_a_fence_changes_no_row_and_makes_no_table(tmp_path: Path) -> None:
    delta.fence(str(tmp_path / "none"), "takeover")
    assert not delta.exists(str(tmp_path / "none"))
    dated(str(tmp_path))
    before = delta.load(str(tmp_path))
    delta.fence(str(tmp_path), "takeover")
    assert delta.load(str(tmp_path)).equals(before)
    assert DeltaTable(str(tmp_path)).metadata().partition_columns == ["date"]


def test_the_ids_of_all_commits_are_known_also_of_those_that_the_log_only_sums_up(tmp_path: Path) -> None:
    assert delta.commit_ids(str(tmp_path / "none")) == frozenset()
    path = str(tmp_path / "table")
    delta.create(path, Schema.from_arrow(pa.schema([("x", pa.int64())])).to_json(), partition=())
    for n in range(23):
        delta.fence(path, f"c{n}")
    assert Path(path, "_delta_log", "00000000000000000019.checkpoint.parquet").exists()
    for old in Path(path, "_delta_log").glob("0000000000000000000*.json"):
        old.unlink()
    assert delta.commit_ids(path) == {f"c{n}" for n in range(23)}


def _torn(log: Path) -> None:
    (log / f"{2:020}.json").write_text('{"add": {"path')


def _without_checkpoint(log: Path) -> None:
    DeltaTable(log.parent).create_checkpoint()
    for checkpoint in log.glob("*.checkpoint.parquet"):
        checkpoint.unlink()


@pytest.mark.parametrize(
    ("damage", "remedy"),
    [(_torn, f"cut off: delete .*/_delta_log/{2:020}.json;"), (_without_checkpoint, "delete .*/_delta_log/_last_checkpoint too")],
)
def test_a_log_that_cannot_be_read_is_told_with_what_to_do(tmp_path: Path, damage: Callable[[Path], None], remedy: str) -> None:
    path = str(tmp_path / "table")
    for number in (1, 2):
        delta.append(path, pa.table({"n": [number]}), commit_id=f"c{number}", partition=())
    damage(tmp_path / "table" / "_delta_log")
    with pytest.raises(delta.DamagedLog, match=f"the log of the table {path} cannot be read: .*{remedy}"):
        delta.load(path)


def test_a_table_lacks_a_commit_once_its_log_does(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    for number in (1, 2):
        delta.append(path, pa.table({"n": [number]}), commit_id=f"c{number}", partition=())
    assert [delta.lacks(path, f"c{number}") for number in (1, 2)] == [False, False]
    max((tmp_path / "table" / "_delta_log").glob("*.json")).unlink()
    assert [delta.lacks(path, f"c{number}") for number in (1, 2)] == [False, True]
