"""Where things are written in a catalog's files: the line of an error, and the lines of features."""

import ast
from collections.abc import Container
from pathlib import Path
from types import TracebackType
from typing import NamedTuple


class Place(NamedTuple):
    """Where something is written: a file and a line, counted from 1."""

    file: Path
    line: int


def innermost(traceback: TracebackType | None, files: Container[str]) -> Place | None:
    """The line of the catalog's files in which an error arose; the newest call counts."""
    place = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file in files:
            place = Place(Path(file), traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def of_feature(feature: str, group: Place) -> Place:
    """The line of a feature: in the call that makes its group, or elsewhere in the file; else the group's own."""
    tree = ast.parse(group.file.read_bytes())
    lines = feature_lines(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno == group.line:
            lines |= feature_lines(node)
    return Place(group.file, lines.get(feature, group.line))


def feature_lines(node: ast.AST) -> dict[str, int]:
    """The lines of the calls of Feature and Derived below a node, by the feature's name."""
    lines: dict[str, int] = {}
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in ("Feature", "Derived"):
            named = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
            lines |= {name.value: call.lineno for name in named if isinstance(name, ast.Constant) and isinstance(name.value, str)}
    return lines
