"""Bugs that other feature stores published, each by name, on one training set; and the same rows as every kind of spine.

The peers and where their bugs are told: research/pit_join.md section 2, feast.md section 6.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from feature_definitions import Query
from feature_definitions.intervals import iso
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from headwater import Project

CATALOG = """
from feature_definitions import (
    DeltaTable, Entity, Feature, FeatureService, Files, Join, ObservationGroup, Query, Source, TrainingSet, WindowedGroup,
)

user, pair = Entity("user", keys={"user_id": "string"}), Entity("pair", keys={"a": "string", "b": "string"})
clicks = Source("clicks", columns={"click": "int64", "user_id": "string", "n": "int64", "at": "timestamp"}, event_timestamp="at",
                id="click")
readings = Source("readings", columns={"reading": "int64", "a": "string", "b": "string", "x": "int64", "y": "int64", "at": "timestamp",
                  "arrived": "timestamp"}, event_timestamp="at", id="reading", arrived_at="arrived")
told = {"about": "string", "user_id": "string", "friend": "string", "a": "string", "b": "string", "note": "string", "at": "timestamp"}
labels = Source("labels", columns=told, event_timestamp="at")
in_place = Source("in_place", DeltaTable("data/labels"), columns=told, event_timestamp="at")
in_files = Source("in_files", Files("data/labels.parquet", format="parquet"), columns=told, event_timestamp="at")
asked = Source("asked", Query("SELECT about, user_id, friend, a, b, note, at FROM in_place", in_place), columns=told, event_timestamp="at")
clicked = WindowedGroup("clicked", user, clicks, ttl="3d", features=(
    Feature("n", "sum", "n", windows=("1d", "12d")), Feature("clicks", "count", windows=("12d",)),
))
read = ObservationGroup("read", pair, readings, columns=("x", "y"), ttl="2d")
both = FeatureService("both", joins=(Join(clicked), Join(clicked, ("n_1d",), prefix="friend_s", on={"user_id": "friend"}), Join(read)))
sets = [TrainingSet(f"of_{spine.name}", spine, both, mode="event_time") for spine in (labels, in_place, in_files, asked)]
of_labels, of_in_place, of_in_files, of_asked = sets
"""
NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
OUTPUTS = ("clicked__n_1d", "clicked__n_12d", "clicked__clicks_12d", "friend_s__n_1d", "read__x", "read__y")
HOT = 3000
"""How many rows of the spine ask of one user."""


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


CLICKS = [
    (1, "u1", 1000, at(6) - MICROSECOND), (2, "u1", 1, at(6)), (3, "u1", 10, at(17, 12)), (4, "u2", 5, at(17, 13)),
    (5, "hot", 7, at(17, 1)),
]  # fmt: skip
READINGS = [
    (1, "a", "bc", 1, 10, at(10, 8), at(10, 9)), (2, "ab", "c", 2, 20, at(10, 8), at(10, 9)),
    (3, "1", "11", 100, 0, at(10, 8), at(10, 9)), (4, "11", "1", 200, 0, at(10, 8), at(10, 9)),
    (6, "t", "t", 6, 0, at(10, 8), at(10, 9, 5)), (5, "t", "t", 5, 0, at(10, 8), at(10, 9)),
    (7, "d", "d", 7, 0, at(10, 8), at(10, 9)), (7, "d", "d", 7, 0, at(10, 8), at(10, 9)),
    (8, "n", "n", 1, 1, at(10, 7), at(10, 9)), (9, "n", "n", None, 2, at(10, 8), at(10, 9)),
    (10, "e", "e", 8, 0, at(10, 8), at(10, 9)), (11, "e", "e", 9, 0, at(10, 9), at(10, 9)),
]  # fmt: skip
ASKED: dict[str, tuple[str, str | None, str, str, datetime]] = {
    "concat 1": ("u1", None, "a", "bc", at(10, 12)), "concat 2": ("u1", None, "ab", "c", at(10, 12)),
    "concat 3": ("u1", None, "1", "11", at(10, 12)), "concat 4": ("u1", None, "11", "1", at(10, 12)),
    "tie": ("u1", None, "t", "t", at(10, 12)), "retried": ("u1", None, "d", "d", at(10, 12)),
    "null": ("u1", None, "n", "n", at(10, 12)),
    "before": ("u1", None, "e", "e", at(10, 9) - MICROSECOND), "exactly": ("u1", None, "e", "e", at(10, 9)),
    "as old as the ttl": ("u1", None, "a", "bc", at(12, 8)), "older": ("u1", None, "a", "bc", at(12, 8) + MICROSECOND),
    "window": ("u1", "u2", "-", "-", at(18, 6)), "day before": ("u1", "u2", "-", "-", at(17, 6)),
    "nobody": ("nobody", "nobody", "-", "-", at(18, 6)), "no key": ("u2", None, "-", "-", at(18, 6)),
}  # fmt: skip
EMPTY = (0, 0, 0)


def spine() -> pa.Table:
    """The cases, one of them twice and once more with another note, then a thousand times one user."""
    rows = [(case, *asked[:4], "plain", asked[4]) for case, asked in ASKED.items()]
    rows += [rows[0], (*rows[0][:5], "other", rows[0][6])]
    rows += [("hot", "hot", None, "-", "-", str(n), at(18, 6)) for n in range(HOT)]
    names, text = ("about", "user_id", "friend", "a", "b", "note", "at"), pa.string()
    kinds = [text] * 6 + [pa.timestamp("us", "UTC")]
    return pa.table([pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)], names=names)


def frame_of(rows: list[Any], *names: str) -> pa.Table:
    times = {name: pa.timestamp("us", "UTC") for name in ("at", "arrived")}
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return pa.table({name: pa.array(values, times.get(name)) for name, values in columns})


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = projects.make(tmp_path_factory.mktemp("peers") / "shop", catalog=CATALOG)
    (folder / "data").mkdir()
    pq.write_table(spine(), folder / "data/labels.parquet")
    write_deltalake(folder / "data/labels", spine())
    with projects.opened(folder, now=NOW) as p:
        p.write("clicks", frame_of(CLICKS, "click", "user_id", "n", "at"))
        p.write("readings", frame_of(READINGS, "reading", "a", "b", "x", "y", "at", "arrived"))
        p.write("labels", spine())
        p.ingest("in_place", "in_files", "asked")
        assert [result.rejected for result in p.materialize()] == [(), ()]
        yield p


@pytest.fixture(scope="module")
def rows(shop: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.training_set("of_labels").to_arrow().to_pylist()
    return found


@pytest.fixture(scope="module")
def by_case(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    return {row["about"]: tuple(row[name] for name in OUTPUTS) for row in rows}


def read_of(by_case: dict[str, tuple[Any, ...]], *cases: str) -> list[tuple[Any, ...]]:
    return [by_case[case][4:] for case in cases]


def test_feast_crosses_composite_keys_by_concat(by_case: dict[str, tuple[Any, ...]]) -> None:
    found = read_of(by_case, "concat 1", "concat 2", "concat 3", "concat 4")
    assert found == [(1, 10), (2, 20), (100, 0), (200, 0)]


def test_feast_and_hopsworks_duplicate_rows_at_tied_timestamps(rows: list[dict[str, Any]], by_case: dict[str, tuple[Any, ...]]) -> None:
    assert read_of(by_case, "tie") == [(6, 0)]
    assert [row["about"] for row in rows].count("tie") == 1


def test_feast_duplicates_rows_whose_feature_row_was_appended_twice(
    rows: list[dict[str, Any]], by_case: dict[str, tuple[Any, ...]]
) -> None:
    assert read_of(by_case, "retried") == [(7, 0)]
    assert [row["about"] for row in rows].count("retried") == 1


def test_feast_drops_rows_of_equal_key_and_time(rows: list[dict[str, Any]], by_case: dict[str, tuple[Any, ...]]) -> None:
    same = [row for row in rows if row["about"] == "concat 1"]
    assert sorted(row["note"] for row in same) == ["other", "plain", "plain"]
    assert {tuple(row[name] for name in OUTPUTS) for row in same} == {by_case["concat 1"]}
    assert len({row["hw_row"] for row in same}) == 3


def test_feast_excludes_the_last_point(by_case: dict[str, tuple[Any, ...]]) -> None:
    assert read_of(by_case, "before", "exactly") == [(8, 0), (9, 0)]
    assert read_of(by_case, "as old as the ttl", "older") == [(1, 10), (None, None)]


def test_feast_joins_otherwise_in_another_time_zone(shop: Project, rows: list[dict[str, Any]]) -> None:
    local = spine().to_pandas().rename(columns={"at": "event_timestamp"})
    local["event_timestamp"] = local["event_timestamp"].dt.tz_convert("America/St_Johns")
    assert joined(shop, local) == strictly(rows)


def test_chronons_windows_are_wider_than_asked(by_case: dict[str, tuple[Any, ...]]) -> None:
    assert by_case["window"][:4] == (10, 11, 2, 5)
    assert by_case["day before"][:4] == (0, 1001, 2, 0)


def test_chronon_drops_the_rows_of_skewed_keys(rows: list[dict[str, Any]]) -> None:
    hot = [row for row in rows if row["about"] == "hot"]
    assert sorted(int(row["note"]) for row in hot) == list(range(HOT))
    assert {tuple(row[name] for name in OUTPUTS) for row in hot} == {(7, 7, 1, None, None, None)}


def test_tempos_rows_never_existed(by_case: dict[str, tuple[Any, ...]]) -> None:
    assert read_of(by_case, "null") == [(None, 2)]


def test_tempo_and_hopsworks_drop_what_no_feature_is_found_for(rows: list[dict[str, Any]], by_case: dict[str, tuple[Any, ...]]) -> None:
    assert len(rows) == spine().num_rows
    assert by_case["nobody"] == (*EMPTY, 0, None, None)
    assert by_case["no key"] == (5, 5, 1, None, None, None)


def test_feathrs_values_depend_on_the_row_before(shop: Project, by_case: dict[str, tuple[Any, ...]]) -> None:
    alone = spine().slice(list(ASKED).index("window"), 1).rename_columns([*spine().column_names[:-1], "event_timestamp"])
    assert joined(shop, alone) == {("window", "plain"): by_case["window"]}


# -------------------------------------------------------------------------------------------------------------------------- spines


def values_of(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {(row["about"], row["note"]): tuple(row[name] for name in OUTPUTS) for row in rows}


def joined(shop: Project, given: object, **more: Any) -> dict[tuple[str, str], tuple[Any, ...]]:
    built = shop.training_set("given", spine=given, service="both", mode="event_time", **more)
    return values_of(built.to_arrow().to_pylist())


@pytest.mark.parametrize("name", ["of_in_place", "of_in_files", "of_asked"])
def test_every_kind_of_source_is_a_spine(shop: Project, rows: list[dict[str, Any]], name: str) -> None:
    found = shop.training_set(name).to_arrow().to_pylist()
    assert found == rows


def test_every_kind_of_file_is_a_spine_in_its_own_order(shop: Project, rows: list[dict[str, Any]]) -> None:
    renamed = spine().rename_columns([*spine().column_names[:-1], "event_timestamp"])
    folder = shop.settings.root
    pq.write_table(renamed, folder / "spine.parquet")
    write_deltalake(folder / "spine", renamed, mode="overwrite")
    lines = [",".join(iso(cell) if isinstance(cell, datetime) else cell or "" for cell in row.values()) for row in renamed.to_pylist()]
    projects.write(folder, "spine.csv", "\n".join([",".join(renamed.column_names), *lines, ""]))
    for path in ("spine.parquet", "spine", "spine.csv"):
        built = shop.training_set("given", spine=path, service="both", mode="event_time").to_arrow()
        assert values_of(built.to_pylist()) == strictly(rows), path
        assert built.select(["about", "note"]).to_pylist() == spine().select(["about", "note"]).to_pylist(), path


def strictly(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What rows find that name no source: not what was observed at their very time, which might be their own event."""
    found = values_of(rows)
    return found | {("exactly", "plain"): found["before", "plain"]}


@pytest.mark.parametrize("sources", [("readings",), ("readings", "labels")])
def test_a_query_does_not_see_the_observations_that_it_is_made_of(shop: Project, sources: tuple[str, ...]) -> None:
    more = "" if len(sources) == 1 else " JOIN labels ON labels.about = 'exactly'"
    sql = f"SELECT 'u1' AS user_id, 'u2' AS friend, r.a, r.b, r.at AS event_timestamp FROM readings AS r{more} WHERE r.reading = 11"
    query = Query(sql, tuple(shop.catalog.sources[name] for name in sources))
    (row,) = shop.training_set("own", spine=query, service="both", mode="event_time").to_arrow().to_pylist()
    assert (row["a"], row["event_timestamp"], row["read__x"]) == ("e", at(10, 9), 8)


SQL = "SELECT about, user_id, friend, a, b, note, at AS event_timestamp FROM labels ORDER BY about DESC, note"


def test_a_query_of_sources_is_a_spine_in_the_order_that_it_says(shop: Project, rows: list[dict[str, Any]]) -> None:
    words = ("--spine-sql", SQL, "--service", "both", "--mode", "event_time")
    done = projects.within("training-set", "queried", *words, "--json", project=shop.settings.root)
    assert done.code == 0, done.err
    found = projects.table(done.json["path"]).sort_values("hw_row")
    names = [(row["about"], row["note"]) for row in spine().to_pylist()]
    assert list(zip(found["about"], found["note"], strict=True)) == sorted(
        sorted(names, key=lambda n: n[1]), key=lambda n: n[0], reverse=True
    )
    assert joined(shop, Query(SQL, shop.catalog.sources["labels"])) == values_of(rows)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT user_id FROM label", "there is no source 'label'. Did you mean 'labels'?"),
        ("SELECT user, at AS event_timestamp FROM labels", "user"),
        ("SELECT a, b, user_id, friend FROM labels", "the spine has no column 'event_timestamp'"),
        ("SELECT now() AS event_timestamp FROM labels", "now"),
        ("SELECT user_id, friend, at AS event_timestamp, CAST(note AS BIGINT) AS n FROM labels", "the spine's rows cannot be computed: "),
    ],
)
def test_a_query_that_is_no_spine_is_refused(shop: Project, sql: str, sentence: str) -> None:
    done = projects.within("training-set", "--spine-sql", sql, "--service", "both", project=shop.settings.root)
    assert done.code == 2
    assert sentence in done.err
