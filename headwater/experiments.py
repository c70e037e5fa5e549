"""Which training set taught which model, kept in MLflow: in a SQLite file of the project, without a server, or wherever it is told to.

A run gets the training set as its dataset, with the manifest and the page of its build; a model is logged with the run as its source.
"""

import json
import logging
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from feature_definitions import layout, settings
from feature_definitions.errors import InputRefused, Unknown, UserError
from feature_definitions.intervals import instant
from lake import storage, training_sets
from lake.training_sets import BuiltVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DIGEST = 36
"""So many signs may the digest of a dataset have in MLflow."""
_TAG = "headwater.training_set"
_TYPES = {"int64": "long", "double": "double", "boolean": "boolean", "string": "string", "timestamp": "datetime", "date": "datetime"}
"""The types of columns as MLflow's schemas name them; of any other column it is told as text."""
_FILE = "sqlite:///"
_PATIENCE_SECONDS = 5
"""How long a store that another process has locked is waited for."""


class NotTracked(UserError):
    """MLflow refuses what it is told, or cannot be asked."""


class Tracking(NamedTuple):
    """Where MLflow keeps runs and models, and their files where it is a file itself; and under which experiment."""

    uri: str
    files: Path
    experiment: str


class Taught(NamedTuple):
    """A model and the version of the training set that taught it, and the run of MLflow that tells of both."""

    model: str
    model_id: str
    run_id: str
    training_set: str
    version: int
    checksum: str
    logged_at: datetime


class Lesson(NamedTuple):
    """What is logged of a model beside its training set: a file or folder with the model, how good it is, and how it was taught."""

    files: Path | None = None
    metrics: Mapping[str, float] = {}
    params: Mapping[str, object] = {}


def log(model: str, of: BuiltVersion, lesson: Lesson, *, lake: str, tracking: Tracking) -> Taught:
    """Log a model and the version of the training set that taught it, with manifest, schema and digest, as one run."""
    if lesson.files is not None and not lesson.files.exists():
        raise InputRefused(f"there is no model at {lesson.files}; name the file or the folder that it was saved to")
    with _client(tracking) as client:
        experiment = _experiment(client, tracking)
        run = client.create_run(experiment, run_name=model)
        run_id, status = run.info.run_id, "FAILED"
        try:
            model_id = _logged(client, run_id, experiment, model, of, lesson, lake)
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)
        return _taught(client.get_logged_model(model_id))


def models(training_set: str, version: int | None, *, tracking: Tracking) -> tuple[Taught, ...]:
    """The models that a training set taught, in one version of it or in any, the newest first."""
    asked = f"tags.`{_TAG}` = '{training_set}'" + ("" if version is None else f" AND tags.`{_TAG}.version` = '{version}'")
    return _found(asked, tracking)


def training_set_of(model: str, *, tracking: Tracking) -> Taught:
    """The training set that taught the newest model of a name, or the one of this id; raises Unknown where none is known."""
    found = _found(f"name = '{model}'", tracking) or _found(f"model_id = '{model}'", tracking)
    if not found:
        raise Unknown(f"MLflow knows no model {model!r} that was logged with its training set; log_model does both in one call")
    return found[0]


def _found(asked: str, tracking: Tracking) -> tuple[Taught, ...]:
    with _client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        if experiment is None:
            return ()
        order = [{"field_name": "creation_timestamp", "ascending": False}]
        found = client.search_logged_models([experiment.experiment_id], filter_string=asked, order_by=order)
        return tuple(_taught(each) for each in found if _TAG in each.tags and each.status == "READY")  # others failed half-way


# ------------------------------------------------------------------------------------------------------------------------ logging


def _logged(  # noqa: PLR0913  # what is logged, and where
    client: "MlflowClient", run_id: str, experiment: str, model: str, of: BuiltVersion, lesson: Lesson, lake: str
) -> str:
    """Log the training set, then the model; gives the model's id."""
    from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput

    dataset = _dataset(of, lake)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_dict(run_id, dict(of.manifest), f"{dataset.name}.manifest.json")
    page = training_sets.page_of(of.manifest, lake)
    if storage.exists(page):
        client.log_text(run_id, storage.read(page).decode(), f"{dataset.name}.html")
    for name, value in lesson.params.items():
        client.log_param(run_id, name, value)
    tags = _tags(of)
    for name, text in tags.items():
        client.set_tag(run_id, name, text)
    params = {name: str(value) for name, value in lesson.params.items()}
    made = client.create_logged_model(experiment, model, run_id, tags, params)
    for name, value in lesson.metrics.items():
        client.log_metric(run_id, name, value, model_id=made.model_id, dataset_name=dataset.name, dataset_digest=dataset.digest)
    if lesson.files is not None:
        _log_files(client, made.model_id, lesson.files)
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    return str(made.model_id)


def _log_files(client: "MlflowClient", model_id: str, files: Path) -> None:
    if files.is_dir():
        client.log_model_artifacts(model_id, str(files))
    else:
        client.log_model_artifact(model_id, str(files))


def _tags(of: BuiltVersion) -> dict[str, str]:
    said: Mapping[str, Any] = of.manifest
    number = str(training_sets.number(of))
    return {_TAG: said["name"], f"{_TAG}.version": number, f"{_TAG}.checksum": said["checksum"], f"{_TAG}.service": said["service"]}


def _dataset(of: BuiltVersion, lake: str) -> Any:
    """The version as MLflow has datasets: a Delta table in a version, its columns, how many rows it has."""
    from mlflow.entities import Dataset

    said: Mapping[str, Any] = of.manifest
    columns = [{"name": name, "type": _TYPES.get(held["type"], "string"), "required": False} for name, held in said["columns"].items()]
    path = layout.training_set_table(lake, said["name"])
    source = {"path": path, "delta_table_version": training_sets.number(of), "is_databricks_uc_table": False}
    return Dataset(
        name=said["name"],
        digest=said["checksum"][:_DIGEST],
        source_type="delta_table",
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": said["rows"]}),
    )


def _taught(model: Any) -> Taught:
    tags = model.tags
    told = (tags[_TAG], int(tags[f"{_TAG}.version"]), tags[f"{_TAG}.checksum"])
    return Taught(model.name, model.model_id, model.source_run_id, *told, instant(model.creation_timestamp * 1000))


# -------------------------------------------------------------------------------------------------------------------------- MLflow


@contextmanager
def _client(tracking: Tracking) -> Iterator["MlflowClient"]:
    """A client of MLflow, which makes its database when it is first asked. What it warns of is of its own making, and is not shown."""
    settings.ask_mlflow_to_tell_nobody()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it raises
        try:
            tracking.files.mkdir(parents=True, exist_ok=True)
            _look(tracking.uri)
            yield MlflowClient(tracking_uri=tracking.uri)
        except (MlflowException, OSError, sqlite3.Error) as error:
            said = str(error).strip().partition("\n")[0].replace(tracking.uri, "its address")
            raise NotTracked(f"MLflow, which keeps what is logged {_where(tracking.uri)}, says: {said}") from error


def _look(uri: str) -> None:
    """Raise what SQLite says of a file that cannot be opened, is none of its own or is locked, which MLflow tries again for minutes."""
    if uri.startswith(_FILE):
        with closing(sqlite3.connect(uri.removeprefix(_FILE).partition("?")[0], timeout=_PATIENCE_SECONDS)) as database:
            database.execute("PRAGMA schema_version")


def _where(uri: str) -> str:
    """Where MLflow keeps what is logged, without the password that the address of a server may have."""
    return f"in {uri.removeprefix(_FILE)}" if uri.startswith(_FILE) else "where MLFLOW_TRACKING_URI says"


def _experiment(client: "MlflowClient", tracking: Tracking) -> str:
    """The id of the project's experiment, which is made if need be; its files lie in the project where MLflow has no server."""
    known = client.get_experiment_by_name(tracking.experiment)
    if known is not None:
        return str(known.experiment_id)
    place = tracking.files.as_uri() if tracking.uri.startswith("sqlite:") else None
    return str(client.create_experiment(tracking.experiment, artifact_location=place))
