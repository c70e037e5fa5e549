"""Models: what a folder of them may hold, and predictions from what is served, for one entity as for many."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from joblib.externals.loky.backend import context
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _openmp_helpers

from online_sync.wire import varint
from serving import rest
from serving.keys import Keys
from serving.models import ModelError, load, save
from tests.serving.processes import RECORD
from tests.serving.test_application import FakeStore, made
from tests.serving.test_rest import SERVICES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FEATURE = "spend__paid_1d"
TAUGHT, TRUTH = np.arange(100.0).reshape(-1, 1), np.arange(100) > 50


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of a service: one that has classes, and one that has none."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / "late", HistGradientBoostingClassifier(max_iter=3).fit(TAUGHT, TRUTH), service="by_customer", features=[FEATURE])
    save(folder / "sum", LinearRegression().fit(TAUGHT, TAUGHT[:, 0] * 2), service="by_customer", features=[FEATURE])
    return folder


def test_a_model_predicts_as_it_did_where_it_was_taught(models: Path) -> None:
    found = load(models, SERVICES)
    results = [{"values": {FEATURE: value}} for value in (10.0, 90.0, None)]
    taught = HistGradientBoostingClassifier(max_iter=3).fit(TAUGHT, TRUTH).predict_proba([[10.0], [90.0], [np.nan]])[:, 1]
    assert found["late"].predict(results) == taught.tolist()
    assert found["sum"].predict(results[:2]) == pytest.approx([20.0, 180.0])
    assert load(models / "nothing", SERVICES) == {}


def test_where_the_system_does_not_tell_its_cores_a_model_predicts_without_a_traceback(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_openmp_helpers, "_CPU_COUNTS", {})
    monkeypatch.setattr(context, "physical_cores_cache", None)
    monkeypatch.setattr(context, "_count_physical_cores_linux", lambda: 0)
    assert len(load(models, SERVICES)["late"].predict([{"values": {FEATURE: 10.0}}])) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("json_", "skops", "said"),
    [
        ({"service": "nobody", "features": []}, None, "'nobody', which is not online"),
        ({"service": "by_customer", "features": ["x"]}, None, "which by_customer answers as nothing, not as a number"),
        ({"service": "by_customer"}, None, "cannot be read"), ({}, None, "cannot be read"),
        (None, pickle.dumps({}), "cannot be read"), (None, b"", "cannot be read"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_served_is_refused(tmp_path: Path, json_: Any, skops: bytes | None, said: str) -> None:
    save(tmp_path / "m", LinearRegression().fit(TAUGHT, TRUTH), service="by_customer", features=[FEATURE])
    if json_ is not None:
        (tmp_path / "m" / "model.json").write_text(json.dumps(json_))
    if skops is not None:
        (tmp_path / "m" / "model.skops").write_bytes(skops)
    with pytest.raises(ModelError, match=said):
        load(tmp_path, SERVICES)


def test_a_hidden_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert load(tmp_path, SERVICES) == {}


def test_a_file_that_makes_what_is_not_scikit_learns_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m", FunctionTransformer(json.dumps), service="by_customer", features=[FEATURE])
    with pytest.raises(ModelError, match=r"it makes json\.dumps"):
        load(tmp_path, SERVICES)


# -------------------------------------------------------------------------------------------------------------------------- ONNX


def field(number: int, content: bytes | int) -> bytes:
    """A field of one of ONNX's messages."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: bytes, columns: int, *, kind: int) -> bytes:
    """What is said of an input or output: its rows are any number."""
    shape = field(1, field(2, b"n")) + field(1, field(1, columns))
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def linear(weights: Sequence[float], *, kind: int = 1) -> bytes:
    """A model in ONNX that gives 1 / (1 + e^-x) of the weighted sum of its inputs, in two columns."""
    raw = np.array([[weight, weight] for weight in weights], "float32" if kind == 1 else "float64").tobytes()
    held = field(1, len(weights)) + field(1, 2) + field(2, kind) + field(8, b"w") + field(9, raw)
    nodes = [
        field(1, b"x") + field(1, b"w") + field(2, b"sum") + field(4, b"MatMul"),
        field(1, b"sum") + field(2, b"y") + field(4, b"Sigmoid"),
    ]
    inside = b"".join(field(1, node) for node in nodes) + field(2, b"linear") + field(5, held)
    inside += field(11, tensor(b"x", len(weights), kind=kind)) + field(12, tensor(b"y", 2, kind=kind))
    return field(1, 8) + field(7, inside) + field(8, field(1, b"") + field(2, 13))


@pytest.mark.parametrize("kind", [1, 11])
def test_a_model_in_onnx_predicts_one_entity_as_many(tmp_path: Path, kind: int) -> None:
    save(tmp_path / "odds", linear([0.5], kind=kind), service="by_customer", features=[FEATURE])
    model = load(tmp_path, SERVICES)["odds"]
    results = [{"values": {FEATURE: value}} for value in (0.0, 2.0, None)]
    assert model.predict(results[:2]) == pytest.approx([0.5, 0.7310585])
    assert np.isnan(model.predict(results)[2])
    assert model.predict(results[:2]) == [model.predict([each])[0] for each in results[:2]]
    status, answer = ask(serving_models(tmp_path), "/v1/predict/odds", {"entities": [{"customer_id": 1}]})
    assert (status, answer["version"]) == (200, model.version)


def test_a_model_takes_the_place_of_one_of_another_format(tmp_path: Path) -> None:
    for estimator in (linear([0.5]), LinearRegression().fit(TAUGHT, TRUTH), linear([0.5])):
        save(tmp_path / "m", estimator, service="by_customer", features=[FEATURE])
        assert len(load(tmp_path, SERVICES)["m"].predict([{"values": {FEATURE: 1.0}}])) == 1
    (tmp_path / "m" / "model.skops").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has both model\.skops and model\.onnx"):
        load(tmp_path, SERVICES)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pickle.dumps({}), "cannot be served: it cannot be read"), (b"", "cannot be served: it cannot be read"),
        (linear([0.5, 0.5]), "let it take one tensor of floats or doubles with 1 columns, one for each feature"),
    ],
)  # fmt: skip
def test_what_is_no_model_in_onnx_for_the_features_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    save(tmp_path / "m", data, service="by_customer", features=[FEATURE])
    with pytest.raises(ModelError, match=said):
        load(tmp_path, SERVICES)


def ask(app: rest.Application, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    async def asked() -> tuple[int, Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        named = [(name.encode(), text.encode()) for name, text in headers.items()]
        method = "GET" if body is None else "POST"
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": named}
        await app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    return asyncio.run(asked())


def serving_models(models: Path, **more: Any) -> rest.Application:
    store = FakeStore()
    store.rows = {}
    return made(store, services=SERVICES, space=RECORD.space, models=models, **more)


def test_one_entity_is_predicted_as_many_are_and_seconds_are_told_apart(models: Path) -> None:
    app = serving_models(models)
    entities = [{"customer_id": 1}, {"customer_id": None}]
    status, many = ask(app, "/v1/predict/late", {"entities": entities})
    assert (status, many["model"], [each["entity"] for each in many["predictions"]]) == (200, "late", entities)
    assert many["predictions"] == [ask(app, "/v1/predict/late", {"entities": [each]})[1]["predictions"][0] for each in entities]
    assert set(many["seconds"]) == {"features", "model"}
    counted = ask(app, "/v1/stats", None)[1]["models"]["late"]
    assert counted["requests"] == 3
    assert counted["features_seconds"] > 0 < counted["model_seconds"]
    assert {each["name"]: each["version"] for each in ask(app, "/v1/models", None)[1]["models"]}["late"] == many["version"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/predict/nobody", {"entities": [{"customer_id": 1}]}, 404), ("/v1/predict/late", {"entities": []}, 400),
        ("/v1/predict/late", {"entities": [{"customer_id": "a"}]}, 400), ("/v1/predict/late", [], 400),
        ("/v1/predict/late", {"service": "by_customer", "entities": [{"customer_id": 1}]}, 400),
        ("/v1/predict/late", {"entities": {"customer_id": [1]}, "max_staleness": "1h"}, 200),
        ("/v1/predict/sum", {"entities": [{"customer_id": 1}]}, 500),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_refused(models: Path, path: str, body: Any, status: int) -> None:
    """A linear model takes no null: that is its own fault, told without what it said."""
    found, answer = ask(serving_models(models), path, body)
    assert found == status
    assert "NaN" not in str(answer)


def test_a_key_must_allow_the_models_service(models: Path, tmp_path: Path) -> None:
    keys = [{"name": each, "sha256": hashlib.sha256(each.encode()).hexdigest(), "services": [each]} for each in ("by_customer", "other")]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    app = serving_models(models, guard=rest.Guard(Keys(tmp_path / "keys.json"), lambda _: None))
    body = {"entities": [{"customer_id": 1}]}
    found = [ask(app, "/v1/predict/late", body, authorization=f"Bearer {each}")[0] for each in ("by_customer", "other", "wrong")]
    assert found == [200, 403, 401]
