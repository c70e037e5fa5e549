"""What is wrong in a catalog, in words: where, and what to write instead."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

from feature_definitions import language
from feature_definitions.language import DefinitionError


class Mistake(NamedTuple):
    """What is wrong in a catalog, where, and what to write instead; line 0 is the file or folder as a whole."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        """The mistake as `file:line: message`."""
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class CatalogError(DefinitionError):
    """A catalog that cannot be used; it lists every mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """Keep the mistakes in the order of files and lines."""
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: the known one that is nearest, if any is near."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def no_such_field(definition: str, name: str) -> str | None:
    """What to say of an argument that a definition of the language does not take; None of anything else."""
    kind = getattr(language, definition, None)
    if not isinstance(kind, type) or not is_dataclass(kind):
        return None
    known = [each.name for each in fields(kind)]
    return f"{definition} has no {name!r}{did_you_mean(name, known)}. It has: {', '.join(known)}"
