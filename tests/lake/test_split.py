"""Rows are parted by date as Spark parts them."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake import delta_files, split

AT = datetime(2026, 1, 5, 12, 0, 0, 1, tzinfo=UTC)


def written(tmp_path: Path, days: list[date | None], numbers: list[int]) -> str:
    rows = pa.table({"n": numbers, "day": pa.array(days, pa.date32()), "at": pa.array([AT] * len(days), pa.timestamp("us", "UTC"))})
    (tmp_path / "whole").mkdir()
    pq.write_table(rows, tmp_path / "whole" / "rows.parquet")
    return str(tmp_path / "whole")


def found(folder: Path) -> dict[str, list[int]]:
    files = sorted(folder.glob("*/*.parquet"))
    assert len({file.parent for file in files}) == len(files)
    return {file.parent.name: pq.ParquetFile(file).read()["n"].to_pylist() for file in files}


def test_each_date_is_a_file_without_the_date_in_its_order_and_null_has_a_folder_of_its_own(tmp_path: Path) -> None:
    a, b = date(2026, 1, 5), date(2026, 1, 6)
    whole = written(tmp_path, [b, a, None, b, a], [1, 2, 3, 4, 5])
    split.by_date(whole, str(tmp_path / "kept"), date="day")
    assert found(tmp_path / "kept") == {"day=2026-01-05": [2, 5], "day=2026-01-06": [1, 4], "day=__HIVE_DEFAULT_PARTITION__": [3]}
    split.by_date(whole, str(tmp_path / "sorted"), date="day", order=["n"])
    assert found(tmp_path / "sorted") == found(tmp_path / "kept")
    (first, *_) = sorted((tmp_path / "kept").glob("*/*.parquet"))
    assert pq.ParquetFile(first).schema_arrow == pa.schema({"n": pa.int64(), "at": pa.timestamp("us", "UTC")})


def test_rows_of_a_date_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    whole = written(tmp_path, [date(2026, 1, 5)] * 3, [3, 1, 2])
    split.by_date(whole, str(tmp_path / "sorted"), date="day", order=["n"])
    assert found(tmp_path / "sorted") == {"day=2026-01-05": [1, 2, 3]}


def test_no_rows_are_no_files(tmp_path: Path) -> None:
    split.by_date(written(tmp_path, [], []), str(tmp_path / "parts"), date="day")
    assert found(tmp_path / "parts") == {}


def test_of_what_may_be_no_number_no_bounds_are_written_by_which_spark_would_skip_it(tmp_path: Path) -> None:
    rows = pa.table({"x": [1.0, float("nan")], "y": [0.5, None], "n": [1, 2], "day": pa.array([date(2026, 1, 5)] * 2)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    split.by_date(str(tmp_path / "rows.parquet"), str(tmp_path / "parts"), date="day")
    (file,) = (tmp_path / "parts").glob("*/*.parquet")
    group = pq.read_metadata(file).row_group(0)
    assert [group.column(number).is_stats_set for number in range(3)] == [False, True, True]


VALUES = {
    "n": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "x": (pa.float64(), st.floats(allow_infinity=True)),
    "t": (pa.bool_(), st.booleans()),
    "s": (pa.string(), st.text(alphabet="aé\U0001f600", max_size=70)),
    "d": (pa.date32(), st.dates()),
    "at": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "naive": (pa.timestamp("us"), st.datetimes()),
    "exact": (pa.decimal128(12, 3), st.decimals(-1000, 1000, places=3)),
    "many": (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
}
DAYS = st.none() | st.dates(date(2026, 1, 1), date(2026, 1, 4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(rows=st.lists(st.tuples(DAYS, *(st.none() | values for _, values in VALUES.values())), max_size=12))
def test_what_is_told_of_files_is_what_their_footers_say(tmp_path: Path, rows: list[tuple[object, ...]]) -> None:
    columns = {"day": pa.date32(), **{name: kind for name, (kind, _) in VALUES.items()}}
    with TemporaryDirectory(dir=tmp_path) as folder:
        arrays = [pa.array([row[at] for row in rows], kind) for at, kind in enumerate(columns.values())]
        (Path(folder) / "whole").mkdir()
        pq.write_table(pa.table(arrays, names=list(columns)), f"{folder}/whole/rows.parquet")
        known = split.by_date(f"{folder}/whole", f"{folder}/run", date="day")
        assert sum(each.rows for each in known.values()) == len(rows)
        told, looked = delta_files.added(folder, f"{folder}/run", known=known), delta_files.added(folder, f"{folder}/run")
        assert [as_said(each) for each in told[0]] == [as_said(each) for each in looked[0]]
        assert told[1] == looked[1] == len(rows)


def as_said(action: AddAction) -> tuple[object, ...]:
    return action.path, action.size, action.partition_values, json.loads(action.stats)


def test_rows_that_were_laid_out_in_several_files_are_a_file_for_each_date(tmp_path: Path) -> None:
    a, b = date(2026, 1, 5), date(2026, 1, 6)
    laid_out = []
    for number, days in enumerate([[b, a, None, b], [a, a], [b]]):
        rows = pa.table({"n": range(number * 10, number * 10 + len(days)), "day": pa.array(days, pa.date32()), "x": [0.5] * len(days)})
        laid_out.append(str(tmp_path / f"{number}.arrow"))
        split.lay_out(rows, laid_out[-1], date="day")
    split.put_together(laid_out, str(tmp_path / "parts"), date="day")
    assert found(tmp_path / "parts") == {"day=2026-01-05": [1, 10, 11], "day=2026-01-06": [0, 3, 20], "day=__HIVE_DEFAULT_PARTITION__": [2]}
