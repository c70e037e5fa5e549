"""The types of values: which go together, and what comes of them."""

import re
from collections.abc import Sequence

from feature_definitions.language.rules import DefinitionError

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


def is_number(kind: str) -> bool:
    """Whether a type is one of numbers."""
    return kind in ("int64", "double") or kind.startswith("decimal")


def numbers(kinds: Sequence[str], what: str, sql: str) -> str:
    """The type that numbers have in common; refuses what is none."""
    for kind in kinds:
        if kind != "null" and not is_number(kind):
            raise DefinitionError(f"{sql!r}: {what} needs numbers, not {articled(kind)}; cast it, like cast(x as double)")
    return common(kinds, what, sql)


def conditions(kinds: Sequence[str], what: str, sql: str) -> None:
    """Refuse what is no condition."""
    for kind in kinds:
        if kind not in ("boolean", "null"):
            raise DefinitionError(f"{sql!r}: {what} needs conditions, not {articled(kind)}; write a comparison, like x > 0")


def strings(kinds: Sequence[str], sql: str) -> None:
    """Refuse what is no text."""
    for kind in kinds:
        if kind not in ("string", "null"):
            raise DefinitionError(f"{sql!r}: like and rlike need strings, not {articled(kind)}; cast it, like cast(x as string)")


def alike(kinds: Sequence[str], what: str, sql: str) -> None:
    """Refuse to compare what Spark would cast silently, or not at all; a text may stand for a date or a timestamp."""
    families = {family(kind) for kind in kinds} - {"null"}
    if len(families) > 1 and families != {"string", "time"}:
        mixed = " and ".join(articled(kind) for kind in dict.fromkeys(kinds) if kind != "null")
        raise DefinitionError(f"{sql!r}: {mixed} are {what if what == 'compared' else f'mixed in {what}'}; cast one of them")


def common(kinds: Sequence[str], what: str, sql: str) -> str:
    """The type that values have in common, `null` if all are null; refuses what has none."""
    known = list(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if not known:
        return "null"
    if len(known) == 1:
        return known[0]
    families = {family(kind) for kind in known}
    if families == {"number"}:
        return widest(known)
    if families == {"time"}:
        return "timestamp"
    raise DefinitionError(f"{sql!r}: {what} mixes {' and '.join(articled(kind) for kind in known)}; cast one of them")


def widest(kinds: Sequence[str]) -> str:
    """The type that holds each of several numbers."""
    if "double" in kinds:
        return "double"
    digits = [digits_of(kind) for kind in kinds]
    scale = max(after for _, after in digits)
    return decimal(max(all_digits - after for all_digits, after in digits) + scale, scale)


def digits_of(kind: str) -> tuple[int, int]:
    """The digits in all and after the point; an int64 has 20, as in Spark."""
    match = _DECIMAL.fullmatch(kind)
    return (int(match[1]), int(match[2])) if match else (20, 0)


def decimal(digits: int, scale: int) -> str:
    """A decimal of so many digits; beyond 38 a double."""
    return f"decimal({digits},{scale})" if digits <= 38 else "double"


def family(kind: str) -> str:
    """What a type is compared with: numbers with numbers, times with times, all else with its like."""
    return "number" if is_number(kind) else "time" if kind in ("date", "timestamp") else kind


def articled(kind: str) -> str:
    """A type with its article, for a sentence."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def element_of(kind: str) -> str:
    """The type of an array's values."""
    return kind.removeprefix("array<").removesuffix(">")
