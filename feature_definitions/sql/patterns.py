"""Texts that Spark reads as patterns: what Java refuses of them, as far as it is sure.

A regular expression of which this reads too little to judge (classes in classes, comments) passes.
"""

import re
from typing import NamedTuple

_ATOM = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?(?:[^\[\]\\&]|\\[^QE])+\]|[^\\\[(){}*+?|]", re.DOTALL)
_OPENED = re.compile(
    r"\((?:\?(?:<(?P<name>[a-zA-Z][a-zA-Z0-9]*)>|(?P<apart><?[=!]|[:>])|(?P<flags>[idmsuU]*(?:-[idmsuU]*)?)(?P<end>[:)])))?"
)
_TIMES = re.compile(r"(?:[*+?]|\{(?P<least>[0-9]{1,9})(?P<more>,(?P<most>[0-9]{0,9}))?\})[+?]?")
_NO_ESCAPES = frozenset("gijlmoqyCEFIJKLMOTUY")
_REPLACED = re.compile(r"\\.|\$(?P<number>[0-9])|\$\{(?P<name>[a-zA-Z][a-zA-Z0-9]*)\}|[^\\$]", re.DOTALL)

_QUOTED = re.compile(r"'(?:[^']|'')*'")
_RUNS = re.compile(r"([A-Za-z])\1*")
_COUNTS = {
    **dict.fromkeys("aF", (1,)),
    **dict.fromkeys("dhHkKms", (1, 2)),
    "D": (1, 2, 3),
    **dict.fromkeys("EGLMqQz", (1, 2, 3, 4)),
    **dict.fromkeys("xXZ", (1, 2, 3, 4, 5)),
    "y": (1, 2, 3, 4, 5, 6),
    "S": (1, 2, 3, 4, 5, 6, 7, 8, 9),
    **dict.fromkeys("vO", (1, 4)),
    "V": (2,),
}
"""How often each letter may stand in a row in Spark's patterns of dates and times; `g` as often as one likes."""
_SHOWN_ALONE = "EFqQ"
"""Letters by which times are shown, not read."""


class Groups(NamedTuple):
    """What a regular expression keeps apart: so many groups, and those that have names."""

    number: int
    names: frozenset[str]


class Unsound(Exception):
    """A text that Spark would stop at: what is wrong with it."""


def groups(pattern: str) -> Groups | None:
    """The groups of a regular expression; None if this cannot tell. Raises Unsound for what Java refuses."""
    at, depth, number, names, before = 0, 0, 0, set[str](), "nothing"
    while at < len(pattern):
        if pattern[at] == "[" and not _ATOM.match(pattern, at):
            if "]" not in pattern[at:]:
                raise Unsound("the pattern has a [ that is never closed")
            return None
        found, kind = _next(pattern, at, before)
        at, before = found.end(), kind
        if kind == "group":
            if found["flags"] and found["end"] == ")":
                before = "nothing"
                continue
            depth, before = depth + 1, "nothing"
            is_kept = found["name"] is not None or found[0] == "("
            number, names = number + is_kept, names | ({found["name"]} if found["name"] else set())
        elif kind == "closed":
            depth, before = depth - 1, "atom"
            if depth < 0:
                raise Unsound("the pattern has a ) too many; write \\\\) for the sign itself")
    if depth:
        raise Unsound("the pattern has a ( that is never closed; write \\\\( for the sign itself")
    return Groups(number, frozenset(names))


def _next(pattern: str, at: int, before: str) -> tuple[re.Match[str], str]:
    """What stands at a place of a regular expression, and what it is."""
    sign = pattern[at]
    if sign in "*+?{":
        return _repetition(pattern, at, before), "repeated"
    if sign == "(" and (opened := _OPENED.match(pattern, at)):
        if opened[0] == "(" and pattern.startswith("(?", at):
            raise Unsound(f"the pattern has {pattern[at : at + 4]!r}, which Java does not know; a group with a name is (?<name>...)")
        return opened, "group"
    if sign in ")|":
        return _single(pattern, at), "closed" if sign == ")" else "nothing"
    found = _ATOM.match(pattern, at)
    if found is None and sign == "\\":
        raise Unsound("the pattern ends with a backslash")
    if found is not None and sign == "\\" and found[0][1] in _NO_ESCAPES:
        raise Unsound(f"the pattern has {found[0]}, which means nothing")
    return found or _single(pattern, at), "atom"


def _single(pattern: str, at: int) -> re.Match[str]:
    found = re.compile(".", re.DOTALL).match(pattern, at)
    assert found is not None
    return found


def _repetition(pattern: str, at: int, before: str) -> re.Match[str]:
    found = _TIMES.match(pattern, at)
    if found is None or (before != "atom" and found["least"] is None):
        raise Unsound(f"the pattern has a {pattern[at]} that repeats nothing; write \\\\{pattern[at]} for the sign itself")
    if found["most"] and int(found["most"]) < int(found["least"]):
        raise Unsound(f"the pattern has {found[0]}, of which the first number is the larger")
    return found


def refuse_replacement(text: str, of: Groups | None) -> None:
    """Raise Unsound for what Java refuses to put in the place of what a pattern found."""
    at = 0
    while at < len(text):
        found = _REPLACED.match(text, at)
        if found is None:
            raise Unsound(f"the replacement has a {text[at]} of its own; write \\\\{text[at]} for the sign itself, $1 for the first group")
        if of is not None and found["number"] is not None and int(found["number"]) > of.number:
            raise Unsound(f"the replacement has {found[0]}, and the pattern has {_number_of_groups(of.number)}")
        if of is not None and found["name"] is not None and found["name"] not in of.names:
            raise Unsound(f"the replacement has {found[0]}, and the pattern has no group of that name")
        at = found.end()


def _number_of_groups(number: int) -> str:
    return {0: "no group", 1: "one group"}.get(number, f"{number} groups")


def refuse_number(number: int, of: Groups | None) -> None:
    """Raise Unsound for the number of a group that a pattern does not have; 0 is all that it found."""
    if number < 0 or (of is not None and number > of.number):
        raise Unsound(f"the pattern has {_number_of_groups(0 if of is None else of.number)}, not a group {number}; 0 is all that it finds")


def refuse_like(pattern: str) -> None:
    """Raise Unsound for a pattern of LIKE in which a backslash stands before anything but `_`, `%` and itself."""
    if not re.fullmatch(r"(?:[^\\]|\\[_%\\])*", pattern, re.DOTALL):
        raise Unsound(
            "the pattern has a backslash before a sign that needs none; write \\\\\\\\ for a backslash, \\\\% and \\\\_ for these signs"
        )


def refuse_time_pattern(pattern: str, *, reads: str) -> None:
    """Raise Unsound for a pattern of times that Spark does not know; `reads` is the function that reads or shows times by it."""
    bare = _QUOTED.sub("", pattern)
    if "'" in bare:
        raise Unsound("the pattern has a quote that is never closed")
    odd = next((sign for sign in bare if sign in "#{}"), None) or ("]" if bare.count("]") > bare.count("[") else None)
    if odd is not None:
        raise Unsound(f"the pattern has a {odd}, which means nothing there; write it in quotes")
    for run in _RUNS.finditer(bare):
        letter, number = run[1], len(run[0])
        is_shown_alone = letter in _SHOWN_ALONE and reads != "date_format"
        if letter != "g" and (number not in _COUNTS.get(letter, ()) or is_shown_alone):
            instead = "years are yyyy" if letter in "Yu" else "text that stands for itself is put in quotes"
            raise Unsound(f"the pattern has {run[0]}, which Spark does not know there; {instead}")
