"""Models that predict from features, each a folder with `model.json` and `model.skops` or `model.onnx`, never a pickle.

This is the only place that knows skops.
`model.json` says `service`, and `features`: those of the service that the model takes, in its order.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from feature_definitions import FeatureService
from feature_definitions.errors import UserError
from serving import described, onnx_model
from serving.refusals import ModelFailed

_OURS = ("sklearn.",)
"""What a file may make beside what skops trusts already: scikit-learn's own types."""
_SKOPS, _ONNX = "model.skops", "model.onnx"
_NUMBERS = ("int64", "double", "boolean")


class ModelError(UserError):
    """A model that cannot be served."""


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model: whose features it takes, and how it estimates one number for each row of numbers; `version` is a hash of its file."""

    name: str
    service: str
    features: tuple[str, ...]
    version: str
    estimate: Callable[[Any], Any]

    def predict(self, results: Sequence[Mapping[str, Any]]) -> list[float]:
        """One prediction for each entity: the probability of the last class where the model has classes, else its value."""
        import numpy as np

        rows = np.array([[_number(result["values"][name]) for name in self.features] for result in results], dtype="float64")
        try:
            return [float(each) for each in np.asarray(self.estimate(rows)).reshape(len(results))]
        except (ValueError, TypeError, ArithmeticError, AttributeError, IndexError):
            raise ModelFailed(f"the model {self.name} cannot predict from these features", field=None) from None


def load(folder: Path, services: Mapping[str, FeatureService]) -> dict[str, Model]:
    """The models of a folder, each in a folder of its name, hidden ones aside; none if there is no folder."""
    found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".") if folder.is_dir() else []
    if any((path / _SKOPS).exists() for path in found):
        count_cores()
    return {path.name: _model(path, services) for path in found}


def count_cores() -> None:
    """Count the cores before scikit-learn does: where the system does not tell (a container), the first count prints a traceback."""
    from joblib.externals.loky.backend.context import cpu_count

    with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
        cpu_count(only_physical_cores=True)


def save(folder: Path, estimator: object, *, service: str, features: Sequence[str]) -> None:
    """Write a model, scikit-learn's or the bytes of one in ONNX, into its folder, such that it is there as a whole or not at all."""
    import skops.io

    folder.mkdir(parents=True, exist_ok=True)
    model, other = (_ONNX, _SKOPS) if isinstance(estimator, bytes) else (_SKOPS, _ONNX)
    (folder / other).unlink(missing_ok=True)
    data = estimator if isinstance(estimator, bytes) else skops.io.dumps(estimator)
    for name, content in (("model.json", msgspec.json.encode(_Said(service, tuple(features)))), (model, data)):
        (folder / f".{name}").write_bytes(content)
        (folder / f".{name}").replace(folder / name)


def _model(folder: Path, services: Mapping[str, FeatureService]) -> Model:
    names = [name for name in (_SKOPS, _ONNX) if (folder / name).exists()]
    if len(names) > 1:
        raise ModelError(f"the folder {folder} has both {' and '.join(names)}; keep the one that is to be served")
    try:
        said = msgspec.json.decode((folder / "model.json").read_bytes(), type=_Said)
        data = (folder / (names or [_SKOPS])[0]).read_bytes()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        example = '{"service": "customer_v1", "features": ["spend__paid_7d"]}'
        raise ModelError(
            f"the model in {folder} cannot be read ({error}); it is a {_SKOPS} or a {_ONNX}, and a model.json like {example}"
        ) from None
    service = services.get(said.service)
    if service is None or not service.online:
        raise ModelError(f"the model in {folder} is for the service {said.service!r}, which is not online")
    kinds = described.service(service)["features"]
    for name in said.features:
        if kinds.get(name) not in _NUMBERS:
            raise ModelError(
                f"the model in {folder} takes {name}, which {said.service} answers as {kinds.get(name, 'nothing')}, not as a number"
            )
    estimate = _of_onnx(folder, data, len(said.features)) if names == [_ONNX] else partial(_estimated, _estimator(folder, data))
    return Model(folder.name, said.service, said.features, hashlib.sha256(data).hexdigest()[:12], estimate)


def _estimated(estimator: Any, rows: Any) -> Any:
    return estimator.predict_proba(rows)[:, -1] if hasattr(estimator, "predict_proba") else estimator.predict(rows)


def _of_onnx(folder: Path, data: bytes, features: int) -> Callable[[Any], Any]:
    try:
        return onnx_model.opened(data, features=features)
    except onnx_model.OnnxModelError as error:
        raise ModelError(f"{folder}/{_ONNX} cannot be served: {error}") from None


def _estimator(folder: Path, data: bytes) -> object:
    import skops.io

    try:
        made = skops.io.get_untrusted_types(data=data)
    except Exception as error:  # noqa: BLE001  # a file that is damaged raises anything
        raise _unreadable(folder, error) from None
    others = sorted({each for each in made if not each.startswith(_OURS)})
    if others:
        raise ModelError(f"{folder}/model.skops is refused: it makes {', '.join(others)}; only scikit-learn's own types are made")
    try:
        return skops.io.loads(data, trusted=made)
    except Exception as error:  # noqa: BLE001  # the same
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"{folder}/model.skops cannot be read ({type(error).__name__}); write it by serving.models.save")


def _number(value: object) -> float:
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]  # its type was checked when the model was loaded
