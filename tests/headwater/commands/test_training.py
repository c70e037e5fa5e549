"""The verbs that look after training sets that were built, without Spark: list, show, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_definitions import layout
from lake import delta_commits, training_sets
from tests import projects
from tests.projects import within


def built(folder: Path, name: str, rows: int, *, on: str = "06") -> None:
    """A build of a training set as it lies in the lake."""
    lake, build_id = f"{folder}/lake", f"p{on}"
    manifest: dict[str, Any] = {
        "name": name, "rows": rows, "service": "churn_v1", "version": 2, "mode": "as_known", "checksum": f"{on:0<64}",
        "built_at": f"2026-01-{on}T12:00:00Z", "spine": {"source": "payments", "first": None, "last": None},
    }  # fmt: skip
    training_sets.begin(manifest, lake, name, build_id=build_id)
    table = pa.table({layout.ROW_NUMBER: pa.array(range(rows), pa.int64()), "name": [f"n{n}" for n in range(rows)]})
    delta_commits.replace_records(layout.training_set_table(lake, name), table, commit_id=build_id, fence=lambda: None)
    whole = training_sets.finish(manifest, lake, name, build_id=build_id)
    training_sets.write_page("<p>page</p>", whole, lake)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two training sets, one of them of two versions and with a newer build that was rejected."""
    folder = projects.make(tmp_path_factory.mktemp("looked_after"))
    built(folder, "churn", 2)
    built(folder, "churn", 3, on="07")
    built(folder, "spend", 1)
    training_sets.write_rejected({"name": "churn", "rejected": ["label:not_null"]}, f"{folder}/lake", "churn")
    return folder


def test_all_training_sets_are_listed(folder: Path) -> None:
    done = within("training-set", "list", "--json", project=folder)
    assert [(each["name"], each["version"], each["rows"], each["versions"], each["rejected"]) for each in done.json["training_sets"]] == [
        ("churn", 2, 3, 2, ["label:not_null"]),
        ("spend", 1, 1, 1, []),
    ]
    shown = within("training-set", "list", project=folder)
    assert (shown.code, "churn_v1" in shown.out) == (0, True)
    assert "churn: a newer build was rejected by label:not_null; readers keep version 2" in shown.err


def test_one_whose_manifests_cannot_be_read_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    folder = projects.make(tmp_path)
    for name in ("churn", "spend"):
        built(folder, name, 2)
    for file in (folder / "lake" / "training_sets").rglob("*churn*/*.json"):
        file.write_text('{"na')
    (folder / "lake" / "training_sets" / f"churn{layout.MANIFEST}").write_text("{}")
    done = within("training-set", "list", "--json", project=folder)
    assert [each["name"] for each in done.json["training_sets"]] == ["spend"]
    assert "churn: none of its manifests can be read; build it again: headwater training-set build churn" in done.err


def test_nothing_is_listed_before_anything_was_built(tmp_path: Path) -> None:
    done = within("training-set", "list", project=projects.make(tmp_path))
    assert (done.code, done.out.strip()) == (0, "no training set was built yet")


def test_a_training_set_is_shown_with_its_versions(folder: Path) -> None:
    done = within("training-set", "show", "churn", "--json", project=folder)
    told = [(each["version"], each["rows"], each["built_at"], each["readable"]) for each in done.json["versions"]]
    assert told == [(2, 3, "2026-01-07T12:00:00Z", True), (1, 2, "2026-01-06T12:00:00Z", True)]
    assert (done.json["version"], done.json["rows"], Path(done.json["page"]).read_text()) == (2, 3, "<p>page</p>")
    older = within("training-set", "show", "churn", "--version", "1", project=folder)
    assert (older.code, "churn version 1: 2 rows" in older.out) == (0, True)


def test_a_training_set_is_written_to_a_file(folder: Path, tmp_path: Path) -> None:
    done = within("training-set", "export", "churn", "--to", tmp_path / "churn.parquet", "--json", project=folder)
    assert (done.code, done.json["rows"], done.json["version"], done.json["format"]) == (0, 3, 2, "parquet")
    assert pq.read_table(tmp_path / "churn.parquet").column("name").to_pylist() == ["n0", "n1", "n2"]
    older = within("training-set", "export", "churn", "--to", tmp_path / "churn.csv", "--version", "1", project=folder)
    assert (older.code, (tmp_path / "churn.csv").read_text()) == (0, '"hw_row","name"\n0,"n0"\n1,"n1"\n')


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "chrn"), "there is no training set 'chrn' in the lake. There are: churn, spend"),
        (("export", "churn", "--to", "x.csv", "--version", "9"), "training set churn has no version 9. It has: 2, 1"),
        (("export", "churn", "--to", "nowhere/x.csv"), "/nowhere, in which x.csv shall lie; make it first"),
        (("verify", "chrn"), "there is no training set 'chrn' in the lake"),
        (("diff", "spend"), "training set spend has no version before 1; name another training set to compare it with"),
        (("append", "churn"), "there is no training set 'churn'"),
        (("add", "churn", "--group", "visits"), "there is no group 'visits'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(words: tuple[str, ...], said: str, folder: Path) -> None:
    done = within("training-set", *words, project=folder)
    assert (done.code, said in " ".join(done.err.split())) == (2, True), done.err


def test_what_is_printed_as_json_is_one_document(folder: Path) -> None:
    printed = within("training-set", "--json", "show", "spend", project=folder).out
    assert json.loads(printed)["manifest"]["checksum"].startswith("06")
