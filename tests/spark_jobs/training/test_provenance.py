"""A manifest names what a training set was made of: tables with their versions, definitions by their hashes, and the code."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

import headwater
from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source
from feature_definitions.planning import fingerprint
from lake import delta, delta_commits
from spark_jobs.training import provenance

if TYPE_CHECKING:
    from pathlib import Path

CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
SEEN = Source("seen", columns={"customer_id": "int64", "page": "string", "ms": "int64", "at": "timestamp"}, event_timestamp="at")
PAGES = ObservationGroup("pages", CUSTOMER, SEEN, columns=("page", "ms"), ttl="7d")


def test_a_table_that_was_published_meanwhile_has_two_versions() -> None:
    found = provenance.inputs({"/lake/features/a/g1": 3, "/data/spine.csv": None}, {"/lake/features/a/g1": 4, "/lake/new": 0}, lake="/lake")
    assert found == [
        {"table": "features/a/g1", "version": 3, "version_after": 4},
        {"table": "/data/spine.csv", "version": None, "version_after": None},
        {"table": "new", "version": None, "version_after": 0},
    ]


def test_a_spine_in_a_table_has_its_version_and_one_in_a_file_none(tmp_path: Path) -> None:
    table, file = str(tmp_path / "table"), tmp_path / "spine.csv"
    for _ in range(2):
        delta_commits.append_records(table, pa.table({"a": [1]}))
    file.write_text("a")
    assert provenance.of_path(table) == {table: delta.opened(table).version()}
    assert provenance.of_path(str(file)) == {str(file): None}


def test_only_the_columns_that_are_asked_for_are_named_by_their_hashes() -> None:
    service = FeatureService("v1", joins=(Join(PAGES, ("page",)), Join(PAGES, ("page",), prefix="other")))
    found = provenance.definitions(service)
    assert found["groups"] == {"pages": {"page": fingerprint.columns(PAGES)["page"]}}
    assert (found["service"], found["on_demand"]) == (fingerprint.service(service), {})


def test_code_outside_of_a_repository_is_named_by_the_version_alone(tmp_path: Path) -> None:
    assert provenance.code(str(tmp_path)) == {
        "headwater": headwater.__version__,
        "engine": fingerprint.ENGINE,
        "commit": None,
        "uncommitted": None,
    }


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.code(str(tmp_path))["commit"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_the_catalog_is_named_and_whether_its_files_are_others(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.com")
        return subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True).stdout.strip()

    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "shop.py").write_text("a = 1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (tmp_path / "notes").write_text("beside the catalog")
    assert provenance.code(str(catalog)) | {"commit": git("rev-parse", "HEAD"), "uncommitted": False} == provenance.code(str(catalog))
    (catalog / "shop.py").write_text("a = 2")
    assert provenance.code(str(catalog))["uncommitted"] is True
