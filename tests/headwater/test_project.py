"""The Python front door: `import headwater as hw; p = hw.open(path)`, on the little shop."""

from __future__ import annotations

import math
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pytest

import headwater as hw
from feature_definitions import layout
from feature_definitions.planning.plan import RangeError
from feature_definitions.settings import SettingsError
from lake import storage
from lake.s3 import S3Fault
from online_sync.store import Store
from online_sync.sync import OtherLake
from serving.request import RequestError
from spark_jobs import session
from spark_jobs.ingest.parsing import FileRefused
from tests import ledgers, projects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

COLUMNS = ["event_timestamp", "created_timestamp", "publish_id", "empties_at", "held"]


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hw.Project]:
    """The published little shop, to be read only."""
    with projects.opened(projects.published(tmp_path_factory.getbasetemp()).folder) as p:
        yield p


@pytest.fixture(scope="module")
def mine(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hw.Project]:
    """A copy of it that tests may add to."""
    with projects.opened(projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("mine"))) as p:
        yield p
        p.down()


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no Headwater project"):
        hw.open(tmp_path)


def test_closing_a_project_leaves_the_spark_running_that_it_shares(shop: hw.Project, spark: SparkSession) -> None:
    with projects.opened(shop.settings.root) as other:
        assert other._spark is not None
    assert session.running()
    assert spark.range(3).count() == 3


def test_looking_starts_no_spark(shop: hw.Project) -> None:
    with patch.object(session, "session", side_effect=AssertionError("Spark was started")), projects.opened(shop.settings.root) as p:
        assert p.status() and p.plan() and p.tables() and len(p.read("spend"))
        assert p.ingest()[0].files == 0
        assert {result.published for result in p.materialize()} == {0}


# ------------------------------------------------------------------------------------------------------------------------- write


def test_a_pandas_frame_is_written_and_the_same_frame_again_counts_once(mine: hw.Project) -> None:
    # The shop was given this frame before.
    report = mine.write("visits", projects.visits())
    assert (report.files, report.rows, report.revision) == (0, 0, None)


def test_ingest_says_when_no_file_is_where_the_source_has_them(tmp_path: Path) -> None:
    projects.make(tmp_path)
    with hw.open(tmp_path) as p:
        assert [(report.files, report.hints) for report in p.ingest()] == [
            (0, (f"no file is at data/payments/*.csv in {tmp_path}",)),
            (0, ()),
            (0, (f"no file is at data/accounts.csv in {tmp_path}",)),
        ]


def test_an_arrow_frame_adds_its_rows_and_puts_aside_what_no_feature_can_use(mine: hw.Project) -> None:
    at = pa.array([datetime(2026, 1, 6, 3, tzinfo=UTC), None], pa.timestamp("ns", tz="Europe/Oslo"))
    frame = pa.table({"seen_at": at, "customer_id": pa.array([3, 3], pa.int32()), "page": ["home", "cart"], "more": [1, 2]})
    report = mine.write("visits", frame)
    assert (report.files, report.rows, report.quarantined, dict(report.reasons)) == (1, 1, 1, {"seen_at is null": 1})
    assert (report.dates_changed, report.revision) == (1, 2)


@pytest.mark.parametrize(
    ("frame", "error", "sentence"),
    [
        (projects.visits().drop(columns="page"), FileRefused, "the frame has no column 'page'. It has: customer_id, seen_at"),
        (projects.visits().assign(page=7), FileRefused, "column 'page' is a int64, the source says string"),
        (projects.visits().assign(page=[1, "a", "b"]), hw.InputRefused, "holds values of several types"),
        (projects.visits().assign(seen_at=pd.Timestamp("2026-01-05")), FileRefused, "has times without zone"),
        ([{"customer_id": 1}], hw.InputRefused, "a frame is a pandas DataFrame or an Arrow table, not a list"),
    ],
    ids=["a column missing", "of another type", "of several types", "naive times", "no frame"],
)
def test_a_frame_that_does_not_fit_is_refused_and_leaves_nothing(
    shop: hw.Project, frame: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as refused:
        shop.write("visits", frame)
    assert sentence in str(refused.value)
    assert shop.ingest("visits")[0].files == 0


def test_an_unknown_name_is_told_the_closest(shop: hw.Project) -> None:
    with pytest.raises(hw.Unknown, match=r"there is no source 'visit'. Did you mean 'visits'?"):
        shop.write("visit", projects.visits())
    with pytest.raises(hw.Unknown, match=r"there is no group 'spent'. Did you mean 'spend'?"):
        shop.read("spent")
    with pytest.raises(hw.Unknown, match=r"there is no service 'customer'. Did you mean 'customer_v1'?"):
        shop.online("customer", [{"customer_id": 1}])


# -------------------------------------------------------------------------------------------------------------- read, plan, status


def test_reading_a_group_gives_its_published_rows_in_the_tables_columns_by_key_and_time(shop: hw.Project) -> None:
    rows = shop.read("spend")
    assert list(rows.columns) == ["customer_id", *COLUMNS, "paid_1d", "paid_3d", "payments_1d", "mean_paid_1d", "date"]
    found = list(zip(rows["customer_id"], rows["event_timestamp"].dt.day, rows["paid_1d"], rows["paid_3d"], strict=True))
    assert found == [(1, 4, 10.5, 10.5), (1, 5, 4.5, 15.0), (2, 5, 20.0, 20.0)]


def test_an_observation_group_keeps_each_event_at_its_own_time(shop: hw.Project) -> None:
    rows = shop.read("last_page")
    assert list(rows.columns) == ["customer_id", *COLUMNS, "page", "date"]
    assert list(rows["event_timestamp"]) == [pd.Timestamp(f"2026-01-{at}Z") for at in ("04 08:00", "05 20:00", "05 07:00")]


def test_a_group_that_was_never_published_reads_as_an_empty_frame_of_the_same_columns(shop: hw.Project, tmp_path: Path) -> None:
    with projects.opened(projects.make(tmp_path)) as p:
        rows = p.read("spend")
    assert (len(rows), list(rows.columns)) == (0, list(shop.read("spend").columns))


def test_a_range_is_of_interval_starts_in_utc_its_end_exclusive_and_needs_a_zone(mine: hw.Project) -> None:
    first, last = datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)
    assert [work.due for work in mine.plan("spend", start=first, end=last)] == [()]
    with pytest.raises(RangeError, match="has no time zone"):
        mine.plan("spend", start=datetime(2026, 1, 3))  # noqa: DTZ001  # naive on purpose
    with pytest.raises(RangeError, match="is reversed or empty"):
        mine.plan("spend", start=last, end=first)


# ------------------------------------------------------------------------------------------------------------------------ online


@pytest.fixture(scope="module")
def synced(mine: hw.Project) -> hw.Project:
    """The copy with its newest values online."""
    mine.sync()
    return mine


def test_sync_tells_each_groups_coverage_and_rows(synced: hw.Project) -> None:
    found = {group: synced._registry.epochs(group)[0] for group in ("spend", "last_page", "account")}
    assert {group: (epoch.epoch, epoch.rows, epoch.written) for group, epoch in found.items()} == {
        "spend": (1, 2, 2), "last_page": (1, 2, 2), "account": (1, 3, 3),
    }  # fmt: skip
    assert found["spend"].coverage == datetime(2026, 1, 5, tzinfo=UTC)


def deleted(project: hw.Project, entity: str) -> str:
    """Delete an entity's row of spend from the store; returns its key."""
    space = project._space()
    assert space is not None
    key = layout.row_key(space, "spend", 1, entity)
    with closing(Store(project.store_url())) as store:
        assert store.unlink([key]) == 1
    return key


def test_a_row_that_was_lost_online_is_noticed_and_repaired_by_the_next_sync(synced: hw.Project) -> None:
    asked = [{"customer_id": 2}]
    before = synced.online("customer_v1", asked)
    [calm] = synced.sync("spend")
    assert (calm.written, calm.compared, calm.repaired, calm.reason) == (0, 2, 0, None)
    deleted(synced, "2")
    assert synced.online("customer_v1", asked) != before
    [done] = synced.sync("spend")
    assert (done.rows, done.written, done.compared, done.repaired) == (2, 1, 2, 1)
    assert done.reason is not None
    assert done.reason.endswith("has 1 keys less than before")
    assert synced.online("customer_v1", asked) == before
    assert synced.sync("spend")[0].compared == 2


def test_a_row_that_is_another_online_is_found_by_the_sample_and_all_are_verified_or_written_on_demand(synced: hw.Project) -> None:
    key = deleted(synced, "1")
    with closing(Store(synced.store_url())) as store:
        store.put_rows([(key, b"damaged")])
    [sampled] = synced.sync("spend")
    assert (sampled.written, sampled.repaired, sampled.reason) == (1, 1, "1 of 2 rows that were looked at are gone or are others")
    [verified] = synced.sync("spend", depth="verify")
    [full] = synced.sync("spend", depth="full")
    assert (verified.written, verified.compared, verified.repaired, verified.reason) == (0, 2, 0, None)
    assert (full.written, full.compared, full.repaired) == (2, 2, 0)


def test_another_lake_of_the_same_name_is_refused_until_it_is_told_to_take_over(synced: hw.Project) -> None:
    mine, asked = synced._space(), [{"customer_id": 2}]
    assert mine is not None
    before = synced.online("customer_v1", asked)
    with closing(Store(synced.store_url())) as store:
        other = layout.KeySpace(mine.project, "otherlak")
        assert store.claim(other, place="/data/other/lake", instead_of=store.owner(mine.project))
        with pytest.raises(OtherLake, match=f"from lake otherlak [(]/data/other/lake[)], not from this one, {mine.lake} .*--take-over"):
            synced.sync()
        store.put_rows([(layout.row_key(other, "spend", 1, "2"), b"the other lake's")])
        synced.sync("spend", other_lake="take over")
        assert store.mget([layout.row_key(other, "spend", 1, "2")]) == [None]
    assert synced.online("customer_v1", asked) == before


def test_a_lake_that_was_begun_anew_knows_nothing_of_the_old_ones_entities(synced: hw.Project) -> None:
    file = layout.identity_file(synced.settings.lake)
    kept = storage.read(file)
    storage.delete(file)
    try:
        unsynced = synced.online("customer_v1", [{"customer_id": 2}])["results"][0]
        storage.write(file, b"anewanew")
        anew = synced.online("customer_v1", [{"customer_id": 2}])["results"][0]
    finally:
        storage.write(file, kept)
    assert {*unsynced["status"].values(), *anew["status"].values()} == {"NOT_FOUND", "EXPIRED"}


def test_online_answers_in_the_order_asked_with_values_status_and_time_of_each_group(synced: hw.Project) -> None:
    body = synced.online("customer_v1", [{"customer_id": 2}, {"customer_id": 1}])
    second, first = body["results"]
    assert (second["entity"], first["entity"]) == ({"customer_id": 2}, {"customer_id": 1})
    assert first == {
        "entity": {"customer_id": 1},
        "values": {
            "spend__paid_1d": 4.5, "spend__paid_3d": 15.0, "spend__payments_1d": 1, "spend__mean_paid_1d": 4.5, "last_page__page": "cart",
            "home__country": "SE",
        },
        "status": {"spend": "PRESENT", "last_page": "PRESENT", "home": "PRESENT"},
        "event_timestamp": {"spend": "2026-01-05T00:00:00Z", "last_page": "2026-01-05T20:00:00Z", "home": "1970-01-01T00:00:00Z"},
    }  # fmt: skip


def test_an_unknown_entity_and_a_null_key_are_answers(synced: hw.Project) -> None:
    unknown, null = synced.online("customer_v1", [{"customer_id": 999}, {"customer_id": None}])["results"]
    assert unknown["status"] == null["status"] == {"spend": "NOT_FOUND", "last_page": "NOT_FOUND", "home": "NOT_FOUND"}
    assert (unknown["values"]["spend__paid_1d"], unknown["values"]["last_page__page"]) == (0.0, None)
    assert set(null["values"].values()) == {None}


def test_what_is_older_than_its_ttl_is_expired_and_null(synced: hw.Project) -> None:
    late = projects.opened(synced.settings.root, now=datetime(2026, 1, 7, 0, 0, 0, 1, tzinfo=UTC))
    (result,) = late.online("customer_v1", [{"customer_id": 1}])["results"]
    assert (result["status"]["spend"], result["values"]["spend__paid_1d"]) == ("EXPIRED", None)
    assert (result["status"]["last_page"], result["values"]["last_page__page"]) == ("PRESENT", "cart")


@pytest.mark.parametrize("entities", [[], [{}], [{"customer_id": "1"}], [{"customer_id": 1, "x": 2}], [{"customer_id": math.nan}]])
def test_a_wrong_entity_is_refused_by_name(synced: hw.Project, entities: list[dict[str, Any]]) -> None:
    with pytest.raises(RequestError, match=r"customer_id|entities|x is no key"):
        synced.online("customer_v1", entities)


# ------------------------------------------------------------------------- which generation readers see, and what a person releases


DOUBLED = ledgers.CATALOG.replace('"amount", windows', '"amount * 2", windows')
WIDER = ledgers.CATALOG.replace('windows=("1d", "3d")', 'windows=("1d", "3d", "7d")')


def current(p: hw.Project) -> list[int]:
    """The generations that readers see: one, at most."""
    return [g.number for g in p._registry.generations("spend") if g.current]


def test_a_new_generation_takes_over_by_itself_when_it_covers_what_the_old_one_showed(tmp_path: Path) -> None:
    with ledgers.project(tmp_path, now=ledgers.day(6, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "PUBLISHED"})
        assert current(p) == [1]
    with ledgers.project(tmp_path, now=ledgers.day(6, 12), catalog=DOUBLED) as p:
        ledgers.ran(p, {3: "PUBLISHED"}, generation=2)
        assert current(p) == [1]
        ledgers.ran(p, {4: "PUBLISHED"}, generation=2)
        assert current(p) == [2]
        assert [(r.generation, r.by) for r in p._registry.promotions("spend")] == [(1, "automatic"), (2, "automatic")]


def test_where_people_promote_only_the_first_generation_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_PROMOTE", "manual")
    with ledgers.project(tmp_path, now=ledgers.day(6, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED"})
        assert current(p) == [1]
    with ledgers.project(tmp_path, now=ledgers.day(6, 12), catalog=DOUBLED) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "PUBLISHED"}, generation=2)
        assert current(p) == [1]
        assert [(g.number, g.current) for g in p.promote("spend")] == [(1, False), (2, True)]
        assert p.tables("spend")["spend"].endswith("/spend/g2")


def test_a_rollback_stands_until_a_generation_comes_that_is_newer_than_all(tmp_path: Path) -> None:
    with ledgers.project(tmp_path, now=ledgers.day(6, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED"})
    with ledgers.project(tmp_path, now=ledgers.day(6, 12), catalog=DOUBLED) as p:
        ledgers.ran(p, {3: "PUBLISHED"}, generation=2)
        assert [g.current for g in p.promote("spend", 1)] == [True, False]
        ledgers.ran(p, {4: "PUBLISHED"}, generation=2)
        assert current(p) == [1]
    with ledgers.project(tmp_path, now=ledgers.day(6, 12), catalog=ledgers.CATALOG.replace('"amount", w', '"amount * 3", w')) as p:
        ledgers.ran(p, {3: "PUBLISHED"}, generation=3)
        assert current(p) == [3]


def test_a_generation_that_would_take_intervals_from_readers_is_promoted_only_where_that_is_accepted(tmp_path: Path) -> None:
    with ledgers.project(tmp_path, now=ledgers.day(6, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "PUBLISHED", 5: "PUBLISHED"})
    with ledgers.project(tmp_path, now=ledgers.day(6, 12), catalog=DOUBLED) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "REJECTED"}, generation=2)
        with pytest.raises(hw.NotCovered, match=r"generation 2 of spend lacks 2 intervals .* the first 2026-01-04T00:00:00Z\.\."):
            p.promote("spend")
        assert current(p) == [1]
        p.promote("spend", accept="gaps")
        assert current(p) == [2]


def test_a_generation_that_was_never_computed_can_not_be_promoted(tmp_path: Path) -> None:
    with ledgers.project(tmp_path, now=ledgers.day(6, 12)) as p:
        with pytest.raises(
            hw.Unknown, match=r"spend has no generation 1 that was computed; it has none. Run `headwater materialize spend`"
        ):
            p.promote("spend")
        ledgers.ran(p, {3: "PUBLISHED"})
        with pytest.raises(hw.Unknown, match="no generation 7 that was computed; it has 1"):
            p.promote("spend", 7)


def test_what_covers_a_rejected_day_waits_until_that_is_released_and_a_change_of_its_events_holds_it_again(tmp_path: Path) -> None:
    def found() -> str:
        return " ".join(s.status for s in p.status("spend"))

    with ledgers.project(tmp_path, now=ledgers.day(8, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "REJECTED"})
        assert found() == "OK REJECTED WAITING WAITING MISSING"
        assert [s.interval.start.day for s in p.plan("spend")[0].due] == [7]
        assert len(p.plan("spend")[0].waiting) == 2
        (release,) = p.release("spend", start="2026-01-04", end="2026-01-05", reason="a known outage")
        assert (release.interval, release.reason, release.revision) == (ledgers.one_day(4), "a known outage", 1)
        assert found() == "OK REJECTED MISSING MISSING MISSING"
        ledgers.changed(p, ledgers.day(4, 3), revision=2)
        assert found() == "OK STALE(data) MISSING MISSING MISSING"
        ledgers.ran(p, {4: "REJECTED"}, revision=2)
        assert found() == "OK REJECTED WAITING WAITING MISSING"


def test_only_an_interval_that_holds_others_can_be_released(tmp_path: Path) -> None:
    with ledgers.project(tmp_path, now=ledgers.day(8, 12)) as p:
        ledgers.ran(p, {3: "PUBLISHED", 4: "REJECTED"})
        with pytest.raises(RangeError, match=r"name the rejected interval itself. Those that hold: 2026-01-04T00:00:00Z\.\.2026-01-05T"):
            p.release("spend", start="2026-01-05", end="2026-01-07")
        p.release("spend", start="2026-01-03", end="2026-01-08")
        with pytest.raises(RangeError, match="None of the group does"):
            p.release("spend", start="2026-01-04", end="2026-01-05")


def test_a_plan_takes_what_is_missing_or_stale_or_all_and_a_scheduled_one_leaves_old_changes_alone(tmp_path: Path) -> None:
    def days(**choice: Any) -> list[int]:
        return [s.interval.start.day for s in p.plan("spend", **choice)[0].due]

    with ledgers.project(tmp_path, now=ledgers.day(12, 12)) as p:
        ledgers.ran(p, dict.fromkeys(range(3, 11), "PUBLISHED"))
        ledgers.changed(p, ledgers.day(3), ledgers.day(10), revision=2)
        assert days() == [3, 4, 5, 6, 7, 8, 9, 10, 11]
        assert days(only="missing") == [11]
        assert days(only="stale", end="2026-01-05") == [3, 4]
        assert days(only="all", start="2026-01-05", end="2026-01-06") == [5]
        assert days(within="restate") == [8, 9, 10, 11]
        assert {s.status for s in p.status("spend")[:8]} == {"STALE(data)"}


# ------------------------------------------------------------------------------------------------------ what is more than one value

HABITS = """
from feature_definitions import Entity, Feature, FeatureService, Join, ObservationGroup, Source, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
visits = Source("visits", columns={"customer_id": "int64", "page": "string", "tags": "array<string>", "seen_at": "timestamp"},
                event_timestamp="seen_at")
habits = WindowedGroup("habits", customer, visits, ttl="3d", features=(
    Feature("pages", "last_n", "page", windows=("2d",), k=2), Feature("favourites", "top_k", "page", windows=("2d",), k=2),
    Feature("since", "time_since_last", windows=("2d",)),
))
last_visit = ObservationGroup("last_visit", customer, visits, columns=("tags",), ttl="3d")
habits_v1 = FeatureService("habits_v1", joins=(Join(habits), Join(last_visit)), defaults={"habits__pages_2d": ("nothing",)})
"""


def test_arrays_ages_and_defaults_are_the_same_in_training_and_online(spark: SparkSession, tmp_path: Path) -> None:
    folder = projects.make(tmp_path / "habits", catalog=HABITS)
    seen = pd.to_datetime(["2026-01-04T08:00Z", "2026-01-05T20:00Z", "2026-01-05T21:00Z"])
    visits = {"customer_id": [1, 1, 1], "page": ["home", "cart", "home"], "tags": [["new"], [], ["mobile", None]], "seen_at": seen}
    with projects.opened(folder) as p:
        p.write("visits", pd.DataFrame(visits))
        p.materialize()
        p.sync()
        answers = [result["values"] for result in p.online("habits_v1", [{"customer_id": 1}, {"customer_id": 2}])["results"]]
        spine = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": [projects.NOW] * 2})
        rows = p.training_set(spine=spine, service="habits_v1").to_arrow().sort_by("customer_id").to_pylist()
        p.down()
    age = (projects.NOW - seen[-1]).total_seconds()
    known = {"pages": ["home", "cart"], "favourites": ["home", "cart"], "since": age}
    expected = [{f"habits__{name}_2d": value for name, value in known.items()} | {"last_visit__tags": ["mobile", None]}]
    expected.append(dict.fromkeys(expected[0]) | {"habits__pages_2d": ["nothing"]})
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    assert [{name: list(v) if isinstance(v, tuple) else v for name, v in answer.items()} for answer in answers] == expected


def test_a_group_that_s3_refuses_is_refused_alone_and_a_lake_that_it_does_not_give_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bool:
        raise S3Fault("S3 does not answer")

    with projects.opened(projects.make(tmp_path)) as p:
        monkeypatch.setattr(p, "_materialize", refused)
        (work, *_) = p.plan()
        assert p._materialize_or_refuse(work).refused == "S3 does not answer"
        monkeypatch.setattr(storage, "exists", refused)
        with pytest.raises(S3Fault, match="does not answer"):
            p._materialize_or_refuse(work)
