"""What is added to a training set, rows or features, gives what a whole build would give; where it would not, it is refused."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from feature_definitions import layout
from feature_definitions.errors import InputRefused, Unknown
from feature_definitions.intervals import Interval, instant, micros
from feature_definitions.records import Publish
from headwater import project
from lake import training_sets
from lake.readable import Published
from spark_jobs.training import append, build, manifest, spine, unmoved
from spark_jobs.training.spine import Spine, TrainingRequest
from spark_jobs.training.unmoved import NotAsBefore
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import SparkSession

    from feature_definitions import Source
    from headwater import Project
    from spark_jobs import workers
    from spark_jobs.context import Context
    from spark_jobs.training.manifest import Basis
    from spark_jobs.training.parts import Cut

LATER = NOW + timedelta(days=1)
CATALOG = """
from feature_definitions import FeatureService, Join, Label, OnDemandFeature, Ref, Request, Split, TrainingSet
from shop import customer_v1, last_page, payments, spend

def made(name):
    return TrainingSet(name, payments, customer_v1, label=Label("refunded", "1d", immature="leave out"),
                       split=Split("entity", {"a": 50, "b": 50}), statuses=True)

grown, twin, monthly = made("grown"), made("twin"), made("monthly")
newest = TrainingSet("newest", payments, customer_v1, mode="event_time")
timed = TrainingSet("timed", payments, customer_v1, split="time")
small_v1 = FeatureService("small_v1", joins=(Join(spend, ("paid_1d",)),))
wide_v1 = FeatureService("wide_v1", joins=(Join(spend, ("paid_1d", "paid_3d", "payments_1d")), Join(last_page, prefix="seen")))

def risk(amount, payments):
    return None if amount == 2.5 else amount / payments  # one row has no payments yet, and fails

scored_v1 = FeatureService("scored_v1", joins=(Join(spend, ("paid_1d", "payments_1d")),), on_demand=(
    OnDemandFeature("risk", (Request("amount", "double"), Ref("spend__payments_1d")), "double", risk, rows=True),
))
served, served_twin = (TrainingSet(name, payments, scored_v1, mode="as_served", statuses=True) for name in ("served", "served_twin"))
narrow, wide = TrainingSet("narrow", payments, small_v1, statuses=True), TrainingSet("wide", payments, wide_v1, statuses=True)
"""
CAME = projects.rows("p6,1,2.0,no,2026-01-06T09:00:00Z,2026-01-06T13:00:00Z", "p7,2,2.5,no,2026-01-06T18:00:00Z,2026-01-06T19:00:00Z")
LATE = projects.rows("p8,2,7.0,no,2026-01-04T11:00:00Z,2026-01-07T11:00:00Z")
MEANWHILE = projects.rows("p20,1,1.0,no,2026-01-06T20:00:00Z,2026-01-06T21:00:00Z")
DESCRIBED = ("rows", "checksum", "columns", "hw_date", "spine", "groups", "seen", "nulls", "failed", "values_on_modelled_times", "split")


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Training sets with a partition for each day, and one with a partition for a month, built before rows came to their spine."""
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("grown"))
    projects.write(folder, "catalog/grown.py", CATALOG)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest, "_ROWS_OF_A_DAY", 1)
        with projects.opened(folder) as p:
            p.sync("spend")
            for name in ("grown", "newest", "timed", "narrow", "served"):
                p.training_set(name)
            with pytest.MonkeyPatch.context() as larger:
                larger.setattr(manifest, "_ROWS_OF_A_DAY", 100)
                p.training_set("monthly")
        projects.write(folder, "data/payments/third.csv", CAME)
        with projects.opened(folder, now=LATER) as p:
            p.ingest("payments")
            yield p
            p.down()


def test_an_unchanged_one_is_known_by_versions_without_spark_until_a_label_ripens(
    shop: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("resting"))
    projects.write(folder, "catalog/grown.py", CATALOG)
    early = NOW - timedelta(hours=6)
    with projects.opened(folder, now=early) as p:
        built = p.training_set("grown")
        assert (built.unchanged, built.rows, built.manifest["ripens_at"]) == (False, 3, "2026-01-06T10:00:00Z")
        DeltaTable(layout.source_table(p.settings.lake, "payments")).optimize.z_order(["amount"])
        again = p.training_set("grown")
        assert (again.unchanged, again.manifest["rests_on"] == built.manifest["rests_on"]) == (True, False)
    monkeypatch.setattr(project.Project, "_spark", property(lambda _: pytest.fail("Spark was asked for")))
    with projects.opened(folder, now=early + timedelta(hours=1)) as p:
        assert p.training_set("grown") == again
        with pytest.raises(pytest.fail.Exception):
            p.training_set("newest")
    with projects.opened(folder, now=NOW) as p, pytest.raises(pytest.fail.Exception):
        p.training_set("grown")


def described(of: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of the rows; doubles that are added in another order may differ in their last bits."""
    text = json.dumps({name: of[name] for name in (*DESCRIBED, "statistics")})
    found: dict[str, Any] = json.loads(text, parse_float=lambda number: float(f"{float(number):.9g}"))
    return found


def test_rows_that_came_are_joined_and_give_what_a_whole_build_gives(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file for file in files(shop, "grown") if "2026-01-06" not in file}
    grown = shop.append_training_set("grown")
    twin = shop.training_set("twin")
    assert grown.manifest["appended"] == {"since": "2026-01-06", "rows": 1, "to": 1}
    assert described(grown.manifest) == described(twin.manifest)
    assert grown.to_arrow().equals(twin.to_arrow())
    assert (grown.rows, before) == (5, {file for file in files(shop, "grown") if "2026-01-06" not in file})
    with monkeypatch.context() as without:
        without.setattr(project.Project, "_spark", property(lambda _: pytest.fail("Spark was asked for")))
        assert shop.append_training_set("grown").unchanged
        assert shop.training_set("grown").unchanged
    assert shop.verify_training_set("grown").verdict == "equal"


def test_rows_of_a_partition_that_are_joined_again_are_counted_once(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    joins: list[Basis] = []

    def finished(basis: Basis, cut: Cut | None, context: Context) -> workers.Flow:
        joins.append(basis)
        return joined(basis, cut, context)

    joined, grown = build.finished, shop.append_training_set("grown")
    monkeypatch.setattr(manifest, "_ROWS_OF_A_DAY", 100)
    monkeypatch.setattr(build, "finished", finished)
    monthly = shop.append_training_set("monthly")
    assert monthly.manifest["appended"] == {"since": "2026-01-01", "rows": 5, "to": 1}
    of_parts = {"hw_date": "month", "checksum": monthly.manifest["checksum"], "columns": monthly.manifest["columns"]}
    assert described(monthly.manifest) == described({**grown.manifest, **of_parts})
    assert [each.summary["rows"] for each in joins] == [5]


def test_as_it_was_served_and_with_features_on_demand_it_grows_into_what_a_whole_build_gives(shop: Project) -> None:
    grown, twin = shop.append_training_set("served"), shop.training_set("served_twin")
    assert described(grown.manifest) == described(twin.manifest)
    assert (grown.manifest["served"], grown.manifest["failed"]) == (twin.manifest["served"], {"risk": 5})
    assert grown.to_arrow().equals(twin.to_arrow())
    shop.add_to_training_set("served", "spend", "paid_3d")
    shop.sync("spend", depth="full")
    found = shop.verify_training_set("served")
    assert (found.verdict, found.spine) == ("equal", "source")


def test_a_part_is_found_among_all_rows_of_groups_among_which_the_whole_is_found(shop: Project, spark: SparkSession) -> None:
    at = pd.to_datetime(["2025-11-03T00:00Z", "2026-01-05T12:00Z"])
    rows = spark.createDataFrame(pd.DataFrame({"customer_id": [1, 1], "at": at}))
    spine = Spine(rows, at="at", source=None, ids=("customer_id",))
    request = TrainingRequest("any", shop.catalog.services["small_v1"], "as_known", None)
    whole = manifest.basis(spine, request, shop._published([shop.catalog.groups["spend"]]), now=LATER)
    part = append._from(date(2026, 1, 5), whole)
    assert (part.summary["rows"], part.first_place) == (1, 1)
    assert build._extent(part) == build._extent(whole)._replace(rows=1)


def files(shop: Project, name: str) -> list[str]:
    return DeltaTable(str(Path(shop.settings.lake, "training_sets", name))).file_uris()


def test_a_late_row_has_all_from_its_date_on_joined(shop: Project) -> None:
    shop.append_training_set("grown")
    projects.write(shop.settings.root, "data/payments/fourth.csv", LATE)
    shop.ingest("payments")
    done = projects.within("training-set", "append", "grown", "--json", project=shop.settings.root, now=LATER)
    assert done.code == 0, done.err
    assert {name: done.json[name] for name in ("since", "joined", "rows", "unchanged")} == {
        "since": "2026-01-04", "joined": 5, "rows": 6, "unchanged": False,
    }  # fmt: skip
    twin = shop.training_set("twin")
    assert described(training_sets.at(shop.settings.lake, "grown").manifest) == described(twin.manifest)


def test_a_group_and_a_feature_are_added_and_give_what_a_whole_build_gives(shop: Project) -> None:
    shop.append_training_set("narrow")
    shop.add_to_training_set("narrow", "spend", "paid_3d", "payments")
    words = ("training-set", "add", "narrow", "--group", "last_page", "--prefix", "seen", "--json")
    done = projects.within(*words, project=shop.settings.root, now=LATER)
    assert done.code == 0, done.err
    assert done.json["columns"] == ["seen__page"]
    wide = shop.training_set("wide")
    assert described(training_sets.at(shop.settings.lake, "narrow").manifest) == described(wide.manifest)
    found = shop.verify_training_set("narrow")
    assert (found.verdict, found.spine) == ("equal", "source")
    assert not shop.training_set("narrow").unchanged


def test_what_is_there_already_is_not_added(shop: Project) -> None:
    with pytest.raises(Unknown, match="newest has all of spend__paid_1d already; name other features, or another prefix"):
        shop.add_to_training_set("newest", "spend", "paid_1d")


def test_a_correction_that_rows_see_refuses_it(shop: Project) -> None:
    projects.write(shop.settings.root, "data/payments/fifth.csv", projects.rows("p1,1,11.5,no,2026-01-03T09:00:00Z,2026-01-07T11:30:00Z"))
    shop.ingest("payments")
    shop.materialize("spend", start="2026-01-03", end="2026-01-04")
    why = (
        r"newest: 1 interval of spend were published since, which its rows see in mode event_time, so its rows would have other values now"
    )
    with pytest.raises(NotAsBefore, match=why):
        shop.append_training_set("newest")
    with pytest.raises(NotAsBefore, match=why):
        shop.add_to_training_set("newest", "last_page", prefix="again")


def test_a_split_that_cuts_elsewhere_refuses_it(shop: Project) -> None:
    with pytest.raises(NotAsBefore, match=r"timed: a split by time cuts elsewhere once rows came.*or split by entity or random"):
        shop.append_training_set("timed")


def test_partitions_of_another_size_refuse_it(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    projects.write(shop.settings.root, "data/payments/sixth.csv", projects.rows("p9,1,1.5,no,2026-01-06T10:00:00Z,2026-01-07T11:00:00Z"))
    shop.ingest("payments")
    monkeypatch.setattr(manifest, "_ROWS_OF_A_DAY", 100)
    with pytest.raises(NotAsBefore, match="with so many rows its partitions would be of a month each; build it anew"):
        shop.append_training_set("timed")


def test_a_spine_that_was_given_does_not_grow(shop: Project) -> None:
    at = pd.to_datetime(["2026-01-05T12:00Z"])
    shop.training_set("given", spine=pd.DataFrame({"customer_id": [1], "event_timestamp": at}), service="customer_v1")
    with pytest.raises(InputRefused, match="the spine of given was given, and is no source that grows"):
        shop.append_training_set("given")


def test_the_first_date_with_other_rows_is_where_joining_begins() -> None:
    held = {20456: (2, 5, 9), 20457: (1, 4, 4), 20460: (1, 1, 1)}
    assert append.first_change(held, held) is None
    assert append.first_change(held, held | {20461: (1, 1, 1)}) == date(2026, 1, 8)
    assert append.first_change(held, held | {20457: (1, 4, 5), 20461: (1, 1, 1)}) == date(2026, 1, 4)
    assert append.first_change(held, {20456: (2, 5, 9), 20460: (1, 1, 1)}) == date(2026, 1, 4)
    assert (append.partition(date(2026, 1, 4), by="day"), append.partition(date(2026, 1, 4), by="month")) == (
        date(2026, 1, 4),
        date(2026, 1, 1),
    )


@pytest.mark.parametrize(("mode", "seen"), [("as_known", ["late", "modelled"]), ("event_time", ["corrected", "late", "modelled"])])
def test_which_publishes_rows_see_depends_on_the_clock(shop: Project, mode: Any, seen: list[str]) -> None:
    spend: Published = shop._published([shop.catalog.groups["spend"]])["spend"]

    def publish(name: str, day: int, known: int) -> Publish:
        start = NOW.replace(day=day, hour=0)
        return Publish(name, "spend", 1, Interval(start, start + timedelta(days=1)), NOW.replace(day=known, hour=0), "OBSERVED")

    publishes = (publish("modelled", 3, 4), publish("late", 3, 5), publish("corrected", 3, 7), publish("later", 5, 7))
    of = Published(spend.group, 1, spend.lake, spend.types, publishes)
    found = unmoved.visible(of, mode, by=micros(NOW.replace(day=5, hour=12)))
    assert sorted(each.publish_id for each in found) == seen
    assert unmoved.visible(of, mode, by=micros(instant(0))) == frozenset()


def test_what_came_while_a_set_was_built_is_not_taken_for_joined(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened_too_early(source: Source, context: Context) -> Spine:
        found = of_source(source, context)
        projects.write(shop.settings.root, "data/payments/meanwhile.csv", MEANWHILE)
        shop.ingest("payments")
        return found

    of_source = spine.of_source
    with monkeypatch.context() as patched:
        patched.setattr(spine, "of_source", opened_too_early)
        before = shop.training_set("timed")
    after = shop.training_set("timed")
    assert (after.unchanged, after.rows - before.rows) == (False, 1)
