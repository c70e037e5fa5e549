"""A training set is verified: damage is found, and what it was built from gives the same rows, whatever happened since."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from feature_definitions import Join, layout
from feature_definitions.errors import Unknown
from feature_definitions.records import Committed
from lake import storage, training_sets
from spark_jobs.training import past, verify
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from headwater import Project

LATER = NOW + timedelta(hours=6)
NEWEST = """
from feature_definitions import Split, TrainingSet
from shop import customer_v1, payments

newest = TrainingSet("newest", payments, customer_v1, mode="event_time", split=Split("entity", {"a": 50, "b": 50}), statuses=True)
"""
CORRECTION = projects.rows("p2,1,9.5,no,2026-01-04T09:00:00Z,2026-01-06T13:00:00Z", "p5,2,3.0,no,2026-01-03T11:00:00Z,2026-01-06T13:00:00Z")


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three training sets, built before a payment was corrected and a late one came."""
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("verified"))
    projects.write(folder, "catalog/newest.py", NEWEST)
    with projects.opened(folder) as p:
        p.training_set("refunds")
        p.training_set("newest")
        at = pd.to_datetime(["2026-01-05T12:00Z", "2026-01-04T12:00Z", "2026-01-06T00:00Z"])
        p.training_set("given", spine=pd.DataFrame({"customer_id": [1, 2, 3], "event_timestamp": at}), service="customer_v1")
    projects.write(folder, "data/payments/third.csv", CORRECTION)
    with projects.opened(folder, now=LATER) as p:
        p.ingest("payments")
        p.materialize("spend")
        yield p


@pytest.mark.parametrize(("name", "spine"), [("refunds", "source"), ("newest", "source"), ("given", "training set")])
def test_a_training_set_comes_out_again_after_its_sources_were_corrected(name: str, spine: str, shop: Project) -> None:
    found = shop.verify_training_set(name)
    assert (found.verdict, found.differing, found.damaged, found.spine, found.gone) == ("equal", {}, (), spine, ())


def test_a_build_of_now_has_other_rows_and_optimize_keeps_what_both_versions_are_verified_by(shop: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop.settings.root, tmp_path / "shop"))
    with projects.opened(folder, now=LATER) as p:
        rows = p.training_set("newest").to_pandas()
        p.optimize()
        newest, oldest = training_sets.versions(p.settings.lake, "newest")
        assert (rows.set_index("payment_id").loc["p2", "amount"], newest.manifest["checksum"] != oldest.manifest["checksum"]) == (9.5, True)
        verdicts = [p.verify_training_set("newest", training_sets.number(each)).verdict for each in (newest, oldest)]
    assert verdicts == ["equal", "equal"]


def test_what_was_changed_in_its_files_is_damage(shop: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop.settings.root, tmp_path / "shop"))
    (file, *_) = Path(folder, "lake/training_sets/given").rglob("*.parquet")
    rows = pq.ParquetFile(file).read()
    column = rows.column_names.index("spend__paid_3d")
    pq.write_table(rows.set_column(column, "spend__paid_3d", rows.column(column).take([1, 0, 2])), file)
    done = projects.within("training-set", "verify", "given", "--json", project=folder, now=LATER)
    assert (done.code, done.json["verdict"], done.json["damaged"], done.json["differing"]) == (1, "differs", ["spend__paid_3d"], [])
    file.write_bytes(b"none")
    done = projects.within("training-set", "verify", "given", "--json", project=folder, now=LATER)
    assert (done.code, done.json["verdict"], done.json["damaged"], done.json["spine"]) == (
        1,
        "differs",
        [*rows.column_names, "hw_date"],
        None,
    )
    assert "of the training set itself cannot be read: " in done.json["gone"][0]


def test_other_values_of_a_group_are_counted_by_row(shop: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop.settings.root, tmp_path / "shop"))
    group = DeltaTable(layout.feature_table(f"{folder}/lake", "spend", 1))
    group.update({"paid_3d": "77.0"}, predicate="customer_id = 2 and date = '2026-01-03'")
    DeltaTable(layout.history_table(f"{folder}/lake", "spend", 1)).update({"paid_3d": "77.0"}, predicate="customer_id = 1")
    with projects.opened(folder, now=LATER) as p:
        found = p.verify_training_set("given")
    assert (found.verdict, found.damaged, dict(found.differing)) == ("differs", (), {"spend__paid_3d": 1})


def test_what_vacuum_took_away_is_named_and_the_rest_is_verified(shop: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop.settings.root, tmp_path / "shop"))
    _vacuum(layout.source_table(f"{folder}/lake", "payments"))
    with projects.opened(folder, now=LATER) as p:
        found = p.verify_training_set("refunds")
        assert (found.verdict, found.spine) == ("equal", "training set")
        assert [each.partition(" of ")[2].partition(" was ")[0] for each in found.gone] == [f"{folder}/lake/sources/payments"]
        p.training_set("newest")
        _vacuum(layout.training_set_table(f"{folder}/lake", "newest"))
        oldest = training_sets.versions(p.settings.lake, "newest")[-1]
        lost = p.verify_training_set("newest", training_sets.number(oldest))
    assert (lost.verdict, lost.spine, len(lost.gone)) == ("not rebuilt", None, 2)
    assert lost.gone[0] == f"version {training_sets.number(oldest)} of the training set itself was deleted, by VACUUM or with its log"


def _vacuum(path: str) -> None:
    """Delete the files that are no part of the newest version, as another program does."""
    DeltaTable(path).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)


def test_a_source_without_its_table_cannot_be_read_as_it_was(shop: Project, tmp_path: Path) -> None:
    of, payments = training_sets.at(shop.settings.lake, "refunds"), shop.catalog.sources["payments"]
    assert [*past.unreadable(of, payments, shop.settings.lake)] == []
    assert [*past.unreadable(of, payments, str(tmp_path))] == ["source payments has no table any more"]


def test_it_is_not_built_again_by_other_definitions(shop: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop.settings.root, tmp_path / "shop"))
    catalog = projects.CATALOG.replace("paid_1d / payments_1d", "2 * paid_1d / payments_1d").replace('ttl="7d"', 'ttl="6d"')
    projects.write(folder, "catalog/shop.py", catalog)
    done = projects.within("training-set", "verify", "given", project=folder, now=LATER)
    assert done.code == 1
    assert "cannot be built again: spend.mean_paid_1d is defined otherwise" in done.out
    assert "last_page has ttl '6d', and had '7d'" in done.out


def test_a_service_that_is_gone_or_another_one_is_told_by_the_manifest(shop: Project) -> None:
    of, catalog = training_sets.at(shop.settings.lake, "given"), shop.catalog
    held = catalog.services["customer_v1"]
    other = replace(held, joins=(Join(catalog.groups["spend"], prefix="home"),))
    for services in ({}, {"customer_v1": other}, {"customer_v1": held}):
        found = past.service(of, replace(catalog, services=services))
        assert [(join.name, join.columns) for join in found.joins] == [(join.name, join.columns) for join in held.joins]
    older: Any = {**of.manifest, "definitions": {name: of.manifest["definitions"][name] for name in ("service", "groups", "on_demand")}}  # type: ignore[index]
    assert past.service(of._replace(manifest=older), catalog) is held
    with pytest.raises(Unknown, match="service customer_v1 is not defined any more, nor is all that it joined and computed as it was"):
        past.service(of._replace(manifest=older), replace(catalog, services={}))


def test_without_what_it_joined_only_its_rows_are_looked_at(shop: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop.settings.root, tmp_path / "shop"))
    projects.write(folder, "catalog/shop.py", projects.CATALOG.partition("account = ")[0])
    (folder / "catalog" / "newest.py").unlink()
    done = projects.within("training-set", "verify", "given", project=folder, now=LATER)
    assert done.code == 1
    assert "3 rows: not rebuilt" in done.out
    assert "cannot be built again: service customer_v1 is not defined any more" in done.out
    projects.write(folder, "catalog/shop.py", projects.CATALOG.replace('"spend", customer', '"spending", customer'))
    done = projects.within("training-set", "verify", "given", project=folder, now=LATER)
    assert done.code == 1
    assert "cannot be built again: service customer_v1 does not join spend any more" in done.out


def test_a_publish_that_was_approved_after_the_build_is_passed_over(shop: Project) -> None:
    of, (spend, *_) = training_sets.at(shop.settings.lake, "given"), shop._published([shop.catalog.groups["spend"]]).values()
    said: Any = of.manifest["seen"]
    built, (first, *_) = past.built_at(of), spend.publishes
    late = spend.publishes[0].__class__("p0", "spend", 1, first.interval, LATER, "OBSERVED")
    with_late = spend.__class__(spend.group, 1, spend.lake, spend.types, (late, *spend.publishes))
    committed = [Committed("spend", 1, "p0", LATER, 7)]
    found = past.publishes(with_late, said["spend"], lambda: committed, by=built)
    assert found is not None
    assert {each.publish_id for each in found.publishes} == {first.publish_id}
    assert past.publishes(with_late, said["spend"], lambda: (), by=built) is None


def test_rows_are_told_apart_by_place(spark: SparkSession) -> None:
    one = spark.createDataFrame([(0, 1.0, "x"), (1, float("nan"), None), (2, None, "x")], "hw_row long, a double, b string")
    other = spark.createDataFrame([(1, float("nan"), ""), (0, 1.0, "x"), (3, None, "x")], "hw_row long, a double, b string")
    assert verify.counted(one, other, ["a", "b"]) == {"a": 0, "b": 3}


def test_the_page_of_what_is_remembered_has_the_manifest_of_each_build(shop: Project) -> None:
    (one,) = training_sets.versions(shop.settings.lake, "given")
    assert storage.exists(layout.training_set_build(shop.settings.lake, "given", one.build_id))
    assert one.manifest == training_sets.newest(shop.settings.lake, "given")
