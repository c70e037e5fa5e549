"""What the documents of the command hold, read off their classes: each field's path and its type in words."""

from __future__ import annotations

import json
import re
import types
import typing
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from typer.main import get_command

from feature_definitions.language.services import VERBS as TRAINING_VERBS
from headwater import documents
from headwater.commands import app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", datetime: "time", date: "date", Any: "value"}


def verbs(command: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Every verb of the command, and those below it, by its name."""
    for name, verb in command.commands.items():
        yield " ".join((*names, name)), verb
        if hasattr(verb, "commands"):
            yield from verbs(verb, *names, name)


def validate(words: Sequence[str], printed: str) -> None:
    """Refuse what a command with `--json` printed, if it is not the document of its verb."""
    if "--json" not in words or not printed:
        return
    text = f" {' '.join(word for word in words if word != '--json')} "
    if " training-set " in text and not any(f" training-set {verb} " in text for verb in TRAINING_VERBS):
        text = text.replace(" training-set ", " training-set build ", 1)
    names = (name for name, verb in verbs(get_command(app)) if not hasattr(verb, "commands"))
    verb = min((name for name in names if f" {name} " in text), key=lambda name: text.index(f" {name} "))
    msgspec.convert(json.loads(printed), document(verb))


def document(verb: str) -> type[documents.Document]:
    """The class of a verb's document."""
    name = "".join(word.title() for word in re.split("[ -]", verb))
    found: type[documents.Document] = getattr(documents, f"{name}Document")
    return found


def fields(verb: str) -> dict[str, str]:
    """The type of every field of a verb's document, by its path."""
    return dict(_fields(document(verb), ""))


def _fields(kind: type, path: str) -> Iterator[tuple[str, str]]:
    for name, annotation in typing.get_type_hints(kind).items():
        yield f"{path}{name}", _words(annotation)
        yield from _below(annotation, f"{path}{name}")


def _below(annotation: Any, path: str) -> Iterator[tuple[str, str]]:
    """The fields of what lies in a field."""
    for each in _either(annotation):
        if typing.get_origin(each) is list:
            yield from _below(typing.get_args(each)[0], f"{path}[]")
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            yield from _fields(each, f"{path}.")


def _words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"object of {_words(arguments[1])}"
    if len(either := _either(annotation)) > 1:
        return f"{_words(either[0])}, or {'absent' if either[1] is msgspec.UnsetType else 'null'}"
    return WORDS.get(annotation, "object")


def _either(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
