"""The versions of training sets: those whose commit happened, each with its manifest, readable as long as somebody keeps that."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import Schema

from feature_definitions import layout
from feature_definitions.errors import Unknown
from lake import delta, delta_commits, optimize, storage, training_sets


def built(lake: str, build_id: str, rows: int, *, name: str = "churn") -> training_sets.Manifest:
    """A build as `training/build` makes it, of so many rows."""
    table = pa.table({"hw_row": range(rows), "build": [build_id] * rows})
    path = layout.training_set_table(lake, name)
    asked = {"service": "churn_v1", "version": 1, "mode": "as_known"}
    manifest: training_sets.Manifest = {"name": name, "rows": rows, "built_at": "2026-01-06T12:00:00Z", **asked}
    training_sets.begin(manifest, lake, name, build_id=build_id)
    delta_commits.create(path, Schema.from_arrow(table.schema).to_json(), partition=(), lasting=training_sets.LASTING)
    delta_commits.replace_records(path, table, commit_id=build_id, fence=lambda: None)
    return training_sets.finish(manifest, lake, name, build_id=build_id)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """Two builds of one training set, the first of which has other rows than the second."""
    built(str(tmp_path), "one", 1)
    built(str(tmp_path), "two", 2)
    return str(tmp_path)


def test_each_build_is_a_version_of_the_table_with_its_manifest(lake: str) -> None:
    found = training_sets.versions(lake, "churn")
    assert [(each.build_id, each.manifest["rows"]) for each in found] == [("two", 2), ("one", 1)]
    tables = [delta.opened(layout.training_set_table(lake, "churn"), version=each.version) for each in found]
    assert [len(delta.contents(table, delta.place(table))) for table in tables] == [2, 1]
    assert [each.manifest["delta_version"] for each in found] == [each.version for each in found]


def test_the_newest_version_is_meant_where_none_is_said(lake: str) -> None:
    newest, oldest = training_sets.versions(lake, "churn")
    assert training_sets.at(lake, "churn") == newest
    assert training_sets.at(lake, "churn", oldest.version) == oldest
    assert newest.manifest == training_sets.newest(lake, "churn")


def test_what_there_is_not_is_told_what_there_is(lake: str) -> None:
    with pytest.raises(Unknown, match=r"there is no training set 'chrn' in the lake\. There are: churn"):
        training_sets.at(lake, "chrn")
    with pytest.raises(Unknown, match=r"training set churn has no version 9\. It has: 2, 1"):
        training_sets.at(lake, "churn", 9)


def test_a_build_that_did_not_commit_is_no_version_and_its_manifest_goes(lake: str) -> None:
    training_sets.begin({"name": "churn", "rows": 3, "built_at": "2026-01-06T12:00:00Z"}, lake, "churn", build_id="cut off")
    assert [each.build_id for each in training_sets.versions(lake, "churn")] == ["two", "one"]
    training_sets.kept_versions(lake, "churn")
    assert not storage.exists(layout.training_set_build(lake, "churn", "cut off"))


def test_a_build_that_was_cut_off_after_its_commit_is_one(lake: str) -> None:
    whole = training_sets.versions(lake, "churn")
    storage.write(layout.training_set_build(lake, "churn", "two"), b'{"name": "churn", "rows": 2}')
    assert [training_sets.number(each) for each in training_sets.versions(lake, "churn")] == [training_sets.number(each) for each in whole]


def test_all_training_sets_are_listed_with_what_rejected_a_newer_build(lake: str) -> None:
    built(lake, "three", 5, name="spend")
    training_sets.write_rejected({"name": "churn", "rejected": ["rows:unique"]}, lake, "churn")
    found = [(each.newest.manifest["name"], each.versions, each.rejected) for each in training_sets.listed(lake)]
    assert found == [("churn", 2, ("rows:unique",)), ("spend", 1, ())]
    assert training_sets.listed(f"{lake}/nowhere") == ()


def test_what_a_manifest_does_not_tell_is_named_and_costs_no_other_set(lake: str) -> None:
    built(lake, "three", 5, name="spend")
    storage.write(layout.training_set_build(lake, "spend", "three"), b'{"name": "spend", "rows": 5}')
    assert [(each.name, bool(each.newest.manifest)) for each in training_sets.listed(lake)] == [("churn", True), ("spend", False)]
    with pytest.raises(Unknown, match="a manifest of training set spend does not tell its spine; build it again"):
        training_sets.spine_of(training_sets.at(lake, "spend"))


def test_optimize_keeps_the_versions_that_have_a_manifest_and_no_others(lake: str) -> None:
    path = layout.training_set_table(lake, "churn")
    for file in Path(path).rglob("*.parquet"):
        os.utime(file, (time.time() - 30 * 86400,) * 2)
    _aged(path)
    optimize.optimize(path, versions=training_sets.kept_versions(lake, "churn"))
    newest, oldest = training_sets.versions(lake, "churn")
    assert [training_sets.is_readable(each, lake) for each in (newest, oldest)] == [True, True]
    storage.delete(layout.training_set_build(lake, "churn", "one"))
    optimize.optimize(path, versions=training_sets.kept_versions(lake, "churn"))
    assert [training_sets.is_readable(each, lake) for each in (newest, oldest)] == [True, False]


def test_a_table_is_of_a_training_set_by_its_place(lake: str) -> None:
    assert training_sets.name_of(layout.training_set_table(lake, "churn"), lake) == "churn"
    assert training_sets.name_of(layout.records_table(lake, "ledger"), lake) is None


def test_one_that_no_version_is_known_of_is_built_again(lake: str) -> None:
    storage.write(layout.training_set_manifest(lake, "old"), b'{"name": "old"}')
    with pytest.raises(Unknown, match=r"training set old has no table any more: .*/training_sets/old is gone; build it again"):
        training_sets.at(lake, "old")
    built(lake, "one", 1, name="broken")
    storage.write(layout.training_set_build(lake, "broken", "one"), b"{}")
    with pytest.raises(Unknown, match="training set broken has no manifest of a version that can be read; build it again"):
        training_sets.at(lake, "broken")


def test_a_table_that_was_made_anew_has_its_new_build_as_the_newest_version(lake: str) -> None:
    before = training_sets.newest(lake, "churn")
    assert before is not None
    assert training_sets.stands(before, lake)
    shutil.rmtree(layout.training_set_table(lake, "churn"))
    after = built(lake, "three", 3)
    assert [each.build_id for each in training_sets.versions(lake, "churn")] == ["three", "two", "one"]
    assert training_sets.at(lake, "churn").manifest == training_sets.at(lake, "churn", 1).manifest == after
    assert (training_sets.stands(after, lake), training_sets.stands(before, lake)) == (True, False)
    storage.write(layout.training_set_build(lake, "churn", "three"), b"{}")
    assert not training_sets.stands(after, lake)


def test_a_path_is_no_name_of_a_training_set(lake: str) -> None:
    with pytest.raises(Unknown, match=r"there is no training set '\.\./churn' in the lake"):
        training_sets.at(lake, "../churn")


def _aged(path: str) -> None:
    """Have what was removed be removed thirty days ago."""
    past = int((time.time() - 30 * 86400) * 1000)
    for file in Path(path, "_delta_log").glob("*.json"):
        lines = [_removed_at(line, past) for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines) + "\n")


def _removed_at(line: str, at: int) -> str:
    return re.sub(r'"deletionTimestamp":\d+', f'"deletionTimestamp":{at}', line)
