"""The objects of a JSON text with the line where each begins: one a line, one after the other over several lines, or in one array."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from feature_definitions.errors import UserError
from spark_jobs.ingest.cells import first_line
from spark_jobs.ingest.opened import LONGEST

Found = tuple[int, object]
"""The line where a value begins, and the value, or a ValueError that says what is wrong with it."""
_AHEAD = 2**16
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]"]', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")


class NotJson(UserError):
    """A text that is no JSON from some line on, so that nobody can tell where its next object begins."""


def objects(lines: Iterable[str], decoder: json.JSONDecoder) -> Iterator[Found]:
    """Each value of a text that comes in pieces that end with lines, bounded in length; raises NotJson.

    One value a line is read line by line, so that what is wrong with one costs that line alone. A text that begins with an array of
    objects, with an object whose first line does not end it, or has all its objects in one line, is read by its braces.
    """
    numbered = enumerate(lines, 1)
    first: list[tuple[int, str]] = []
    for number, line in numbered:
        first.append((number, line))
        if sum(1 for _, each in first if each.strip()) == 2:  # the first two lines tell
            break
    if _spans_lines([line for _, line in first if line.strip()], decoder):
        yield from _by_braces((line for _, line in chain(first, numbered)), decoder)
    else:
        yield from ((number, _of_line(number, line, decoder)) for number, line in chain(first, numbered) if line.strip())


def _of_line(number: int, line: str, decoder: json.JSONDecoder) -> object:
    if len(line) == LONGEST:
        raise NotJson(f"line {number} goes on for more than {LONGEST:,} characters")
    return _value(line.strip(), decoder)


def _spans_lines(first: list[str], decoder: json.JSONDecoder) -> bool:
    begin, then = (*(line.strip() for line in first), "", "")[:2]
    if begin.startswith("["):
        return begin[1:].lstrip()[:1] in ("{", "]", "") and (then[:1] in ("{", "]", "") or len(begin) > 1)
    if not begin.startswith("{") or then.startswith("{"):
        return False
    if not then:
        return _are_several(begin, decoder)
    return isinstance(_value(begin, decoder), ValueError)


def _are_several(line: str, decoder: json.JSONDecoder) -> bool:
    """Whether the only line holds one object after the other, as streams are often written to files."""
    try:
        return line[decoder.raw_decode(line)[1] :].lstrip().startswith("{")
    except (ValueError, RecursionError):
        return False


def _value(text: str, decoder: json.JSONDecoder) -> object:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as error:
        return ValueError(error.msg if isinstance(error, json.JSONDecodeError) else first_line(error))


def _by_braces(lines: Iterable[str], decoder: json.JSONDecoder) -> Iterator[Found]:
    text, at, line, array = _Ahead(lines), 0, 1, None
    while True:
        text.more_unless(at)
        between = _BETWEEN.match(text.held, at)
        end = at if between is None else between.end()
        line, at = line + text.held.count("\n", at, end), end
        match text.held[at : at + 1]:
            case "":
                if text.forget(at):
                    at = 0
                    continue
                break
            case "[" if array is None:
                array, at = line, at + 1
            case "]" if array is not None:
                array, at = None, at + 1
            case "{":
                value, end = text.object_at(at, line, decoder)
                yield line, value
                line, at = line + text.held.count("\n", at, end), end
            case _:
                raise NotJson(f"line {line}: an object must begin here. Is the file corrupt?")
        if at > _AHEAD:
            text.forget(at)
            at = 0
    if array is not None:
        raise NotJson(f"the array that begins on line {array} is never closed: is the file truncated?")


class _Ahead:
    """As much of a text as is needed to see an object whole."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.held = ""
        self._lines = iter(lines)

    def more_unless(self, at: int) -> None:
        """Read on if nothing is left."""
        if at >= len(self.held):
            self._more()

    def forget(self, at: int) -> bool:
        """Let go of what lies before a place; whether anything is left or comes."""
        self.held = self.held[at:]
        return bool(self.held) or self._more()

    def _more(self) -> bool:
        parts: list[str] = []
        while sum(map(len, parts)) < _AHEAD and (line := next(self._lines, "")):
            parts.append(line)
        self.held += "".join(parts)
        return bool(parts)

    def object_at(self, begin: int, line: int, decoder: json.JSONDecoder) -> tuple[object, int]:
        """The object that begins at a place, and where it ends; raises NotJson."""
        try:
            return decoder.raw_decode(self.held, begin)
        except (ValueError, RecursionError):
            end = self._end_of(begin, line)
        return _value(self.held[begin:end], decoder), end

    def _end_of(self, begin: int, line: int) -> int:
        """Where an object ends that begins at a place; raises NotJson."""
        at, depth = begin, 0
        while True:
            for part in _PART.finditer(self.held, at):
                if part[0] == '"':  # a string whose end is still to be read
                    at = part.start()
                    break
                at = part.end()
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(part[0], 0)
                if depth == 0:
                    return at
            if len(self.held) - begin > LONGEST:
                raise NotJson(f"line {line}: an object begins here that has more than {LONGEST:,} characters")
            if not self._more():
                raise NotJson(f"line {line}: the object that begins here is never closed: is the file truncated?")
