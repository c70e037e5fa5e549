"""What an operation asks of the types of its operands: numbers, conditions, texts, or values that go together."""

from collections.abc import Sequence

from feature_definitions.language.rules import DefinitionError
from feature_definitions.sql.data_types import articled, family, is_number, widest


def numbers(data_types: Sequence[str], what: str, sql: str) -> str:
    """The type that numbers have in common; refuses what is none."""
    for data_type in data_types:
        if data_type != "null" and not is_number(data_type):
            raise DefinitionError(f"{sql!r}: {what} needs numbers, not {articled(data_type)}; cast it, like cast(x as double)")
    return common(data_types, what, sql)


def conditions(data_types: Sequence[str], what: str, sql: str) -> None:
    """Refuse what is no condition."""
    for data_type in data_types:
        if data_type not in ("boolean", "null"):
            raise DefinitionError(f"{sql!r}: {what} needs conditions, not {articled(data_type)}; write a comparison, like x > 0")


def strings(data_types: Sequence[str], sql: str) -> None:
    """Refuse what is no text."""
    for data_type in data_types:
        if data_type not in ("string", "null"):
            raise DefinitionError(f"{sql!r}: like and rlike need strings, not {articled(data_type)}; cast it, like cast(x as string)")


def alike(data_types: Sequence[str], what: str, sql: str) -> None:
    """Refuse to compare what Spark would cast silently, or not at all; a text may stand for a date or a timestamp."""
    families = {family(data_type) for data_type in data_types} - {"null"}
    if len(families) > 1 and families != {"string", "time"}:
        mixed = " and ".join(articled(data_type) for data_type in dict.fromkeys(data_types) if data_type != "null")
        raise DefinitionError(f"{sql!r}: {mixed} are {what if what == 'compared' else f'mixed in {what}'}; cast one of them")


def common(data_types: Sequence[str], what: str, sql: str) -> str:
    """The type that values have in common, `null` if all are null; refuses what has none."""
    known = list(dict.fromkeys(data_type for data_type in data_types if data_type != "null"))
    if not known:
        return "null"
    if len(known) == 1:
        return known[0]
    families = {family(data_type) for data_type in known}
    if families == {"number"}:
        return widest(known)
    if families == {"time"}:
        return "timestamp"
    raise DefinitionError(f"{sql!r}: {what} mixes {' and '.join(articled(data_type) for data_type in known)}; cast one of them")
