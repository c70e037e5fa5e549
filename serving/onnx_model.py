"""Models in ONNX's format: the only place that knows onnxruntime, which runs them on the CPU alone."""

from collections.abc import Callable
from typing import Any

from feature_definitions.errors import UserError

_REAL = {"tensor(float)": "float32", "tensor(double)": "float64"}
_GIVEN = (*_REAL, "tensor(int64)", "tensor(bool)")


class OnnxModelError(UserError):
    """A file that is no model for rows of numbers."""


def opened(data: bytes, *, features: int) -> Callable[[Any], Any]:
    """How a model predicts from rows of so many numbers: the last column of its last output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # a file that is damaged raises anything
        raise OnnxModelError(f"it cannot be read ({type(error).__name__})") from None
    asked, given = session.get_inputs(), session.get_outputs()[-1]
    if len(asked) != 1 or asked[0].type not in _REAL or not _holds(asked[0].shape, features):
        told = ", ".join(f"{each.name}: {each.type}{each.shape}" for each in asked)
        raise OnnxModelError(f"it takes {told}; let it take one tensor of floats or doubles with {features} columns, one for each feature")
    if given.type not in _GIVEN:
        raise OnnxModelError(f"its last output is a {given.type}; let it be a tensor (skl2onnx: options={{'zipmap': False}})")
    name, kind = asked[0].name, _REAL[asked[0].type]

    def predict(rows: Any) -> Any:
        try:
            found = session.run([given.name], {name: rows.astype(kind)})[0]
        except Exception as error:  # noqa: BLE001  # its errors have no class of their own
            raise ValueError(type(error).__name__) from None
        return found[:, -1] if found.ndim == 2 else found

    return predict


def _holds(shape: list[Any], features: int) -> bool:
    return len(shape) == 2 and (not isinstance(shape[1], int) or shape[1] == features) and not isinstance(shape[0], int)
