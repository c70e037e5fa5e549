"""MLflow keeps which training set taught which model: in a file of the project, without a server, and both are found by the other."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import headwater
from feature_definitions import layout
from feature_definitions.errors import InputRefused, Unknown
from headwater import experiments
from headwater.experiments import NotTracked
from lake import delta_commits, training_sets
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headwater import Project
    from headwater.experiments import Taught


def built(lake: str, build_id: str) -> None:
    """A build of a training set, with all of a manifest that is looked at here."""
    columns = {"customer_id": {"type": "int64", "checksum": "1"}, "tags": {"type": "array<string>", "checksum": "2"}}
    manifest: dict[str, Any] = {"name": "churn", "rows": 3, "service": "churn_v1", "checksum": f"{build_id:0<64}", "columns": columns}
    training_sets.begin(manifest, lake, "churn", build_id=build_id)
    delta_commits.replace_records(layout.training_set_table(lake, "churn"), pa.table({"x": [1]}), commit_id=build_id, fence=lambda: None)
    whole = training_sets.finish(manifest, lake, "churn", build_id=build_id)
    training_sets.write_page(f"<p>{build_id}</p>", whole, lake)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a training set of two versions."""
    folder = projects.make(tmp_path_factory.mktemp("taught"))
    with headwater.open(folder, clock=lambda: datetime(2026, 1, 6, tzinfo=UTC)) as p:
        built(p.settings.lake, "a")
        built(p.settings.lake, "b")
        yield p


@pytest.fixture(scope="module")
def taught(shop: Project) -> tuple[Taught, ...]:
    """One model of the first version, and two of the second."""
    folder = Path(shop.settings.root, "models", "late")
    projects.write(folder, "model.skops", b"the model")
    older = training_sets.number(training_sets.versions(shop.settings.lake, "churn")[-1])
    one = shop.log_model("late", training_set="churn", version=older, files=folder / "model.skops")
    two = shop.log_model("late", training_set="churn", files=folder, metrics={"auc": 0.75}, params={"depth": 3})
    return one, two, shop.log_model("early", training_set="churn")


def test_a_model_knows_the_version_of_its_training_set(shop: Project, taught: tuple[Taught, ...]) -> None:
    newest, oldest = training_sets.versions(shop.settings.lake, "churn")
    assert [(each.model, each.version, each.checksum[0]) for each in taught] == [
        ("late", oldest.version, "a"),
        ("late", newest.version, "b"),
        ("early", newest.version, "b"),
    ]
    assert shop.training_set_of("late") == taught[1]
    assert shop.training_set_of(taught[0].model_id) == taught[0]


def test_a_training_set_knows_its_models(shop: Project, taught: tuple[Taught, ...]) -> None:
    assert shop.models_of("churn") == taught[::-1]
    assert shop.models_of("churn", taught[0].version) == taught[:1]
    assert shop.models_of("other") == ()


def test_the_run_has_the_training_set_as_its_dataset_with_its_manifest_and_page(shop: Project, taught: tuple[Taught, ...]) -> None:
    database = sqlite3.connect(shop.settings.state / "mlflow.db")
    ((name, digest, kind, source, schema, profile),) = database.execute(
        "SELECT d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, d.dataset_profile FROM datasets d "
        "WHERE d.digest LIKE 'b%'"
    ).fetchall()
    database.close()
    assert (name, digest, kind) == ("churn", "b" + 35 * "0", "delta_table")
    assert json.loads(source) == {
        "path": layout.training_set_table(shop.settings.lake, "churn"),
        "delta_table_version": taught[1].version,
        "is_databricks_uc_table": False,
    }
    assert json.loads(schema)["mlflow_colspec"] == [
        {"name": "customer_id", "type": "long", "required": False},
        {"name": "tags", "type": "string", "required": False},
    ]
    assert json.loads(profile) == {"num_rows": 3}
    kept = {file.name: file for file in Path(shop.settings.state, "mlflow").rglob("*") if taught[1].run_id in file.parts}
    assert json.loads(kept["churn.manifest.json"].read_text()) == training_sets.newest(shop.settings.lake, "churn")
    assert kept["churn.html"].read_text() == "<p>b</p>"


def test_the_model_lies_where_mlflow_keeps_it(shop: Project, taught: tuple[Taught, ...]) -> None:
    kept = [file for file in Path(shop.settings.state, "mlflow").rglob("model.skops") if file.read_bytes() == b"the model"]
    assert {each.model_id for each in taught[:2]} == {part for file in kept for part in file.parts if part.startswith("m-")}


def test_what_is_not_there_is_told(shop: Project, taught: tuple[Taught, ...]) -> None:
    with pytest.raises(InputRefused, match=r"there is no model at nowhere; name the file or the folder that it was saved to"):
        shop.log_model("late", training_set="churn", files="nowhere")
    with pytest.raises(Unknown, match="MLflow knows no model 'later' that was logged with its training set"):
        shop.training_set_of("later")
    with pytest.raises(Unknown, match="there is no training set 'chrn'"):
        shop.log_model("late", training_set="chrn")
    assert len(shop.models_of("churn")) == len(taught)


def test_a_model_of_which_something_is_refused_taught_nobody(shop: Project, taught: tuple[Taught, ...]) -> None:
    with pytest.raises(NotTracked, match=r"mlflow\.db, says: Invalid model name \('a/b'\)"):
        shop.log_model("a/b", training_set="churn")
    with pytest.raises(NotTracked, match=r"says: Invalid value \"high\" for parameter 'value'"):
        shop.log_model("late", training_set="churn", metrics={"auc": "high"})  # type: ignore[dict-item]  # it is what is refused
    assert shop.models_of("churn") == taught[::-1]


def test_a_store_that_is_locked_or_none_is_named(shop: Project, taught: tuple[Taught, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "_PATIENCE_SECONDS", 0)
    with sqlite3.connect(shop.settings.state / "mlflow.db", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NotTracked, match=r"MLflow, which keeps what is logged in .*mlflow\.db, says: database is locked"):
            shop.models_of("churn")
        database.execute("ROLLBACK")
    other = projects.write(Path(shop.settings.root), "other.db", b"no database" * 200)
    for place, said in ((other, "file is not a database"), (Path(shop.settings.root), "unable to open database file")):
        with pytest.raises(NotTracked, match=said):
            experiments.models("churn", None, tracking=shop._tracking._replace(uri=f"sqlite:///{place}"))
