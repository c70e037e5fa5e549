"""What a reader gets of a published group: the status of an entity, which values it has, their age, and a default in place of null.

This is the one place that says so. Serving, training sets, `explain` and the sync ask here, so that at one time all give one answer.
`CASES` and `conditions` are the rule. Conditions are made of operators that numbers and columns of Spark share: of one entity the first
that is true decides (`CASES[conditions(...).index(True)]`), and `spark_jobs.point_in_time` makes an expression of them.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from math import isfinite
from typing import Any, Literal, NamedTuple, assert_never

from feature_definitions.intervals import MICROSECOND, duration, iso, parse_instant
from feature_definitions.language import FeatureGroup
from feature_definitions.language.rules import DefinitionError
from feature_definitions.sql.data_types import articled, digits_of, element_of, is_array

GroupKind = Literal["windowed", "observation", "snapshot", "static"]
"""How a group's values grow old: with its coverage, with each row's own time, or not at all."""

Status = Literal["PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND", "HELD", "FAILED"]
PRESENT: Status = "PRESENT"
EMPTY: Status = "EMPTY"
EXPIRED: Status = "EXPIRED"
NOT_FOUND: Status = "NOT_FOUND"
HELD: Status = "HELD"
FAILED: Status = "FAILED"
"""Of a feature computed on demand: its function raised, or gave what is no value of its type. It is PRESENT otherwise."""

Given = Literal["row", "empty", "nothing"]
"""Which values a reader gets: the row's, the group's empty ones (null in groups without windows), or null."""

NEVER, FOREVER = -(2**62), 2**61
"""Times and spans that stand for none: a coverage that does not exist, a row that does not empty, values that do not grow old."""


class Question(NamedTuple):
    """What is asked of a group and when: numbers, or columns of Spark, in microseconds. Without a coverage NEVER, without a TTL FOREVER."""

    kind: GroupKind
    at: Any
    coverage: Any
    ttl: Any


class Case(NamedTuple):
    """What one case of the rule means: the status, and which values a reader gets."""

    status: Status
    given: Given


CASES = (
    Case(NOT_FOUND, "nothing"),  # a key is null: that is nobody
    Case(EXPIRED, "nothing"),  # the coverage is too old
    Case(NOT_FOUND, "empty"),  # no row stands
    Case(EXPIRED, "nothing"),  # the row is too old
    Case(EMPTY, "empty"),  # the row is empty by now
    Case(HELD, "nothing"),  # the row was held back
    Case(PRESENT, "row"),
)
"""The rule (DESIGN 5.3): the first case whose condition holds decides."""


def conditions(question: Question, *, nobody: Any, absent: Any, at: Any, empties_at: Any, held: Any) -> tuple[Any, ...]:
    """The conditions of `CASES`, in their order; those that a kind of group does not know are False, and the last always holds.

    `nobody` says that a key is null, `absent` that the entity has no standing row. `at` is the row's own time (T). `empties_at` is when it
    empties (or FOREVER): in snapshots the time of the next one, which does not have the entity. Of an absent row any numbers do.
    """
    uncovered = old = emptied = False
    match question.kind:
        case "windowed":
            uncovered, emptied = question.at - question.coverage > question.ttl, empties_at <= question.coverage
        case "snapshot":
            uncovered, emptied = question.at - question.coverage > question.ttl, empties_at <= question.at
        case "observation":
            old = question.at - at > question.ttl
        case "static":
            pass
        case _:
            assert_never(question.kind)
    return nobody, uncovered, absent, old, emptied, held, True


def unchanged_until(question: Question, *, at: int, empties_at: int) -> int:
    """Until when, from `question.at` on, the case that holds goes on to hold though time passes; numbers only, of the row as `conditions`.

    FOREVER where time alone changes nothing.
    """
    coverage, ttl, now = question.coverage, question.ttl, question.at
    match question.kind:
        case "windowed":
            ends = [coverage + ttl]
        case "snapshot":
            ends = [coverage + ttl, empties_at - 1]
        case "observation":
            ends = [at + ttl]
        case "static":
            ends = []
        case _:
            assert_never(question.kind)
    return min((end for end in ends if end >= now), default=FOREVER)


def kind_of(group: FeatureGroup) -> GroupKind:
    """The kind of a group: how its values grow old."""
    match group.row_time:
        case "end":
            return "windowed"
        case "event":
            return "snapshot" if group.by_snapshot else "observation"
        case "none":
            return "static"


def question(group: FeatureGroup, *, at: Any, coverage: Any) -> Question:
    """What is asked of a group at a time, with its coverage then."""
    return Question(kind_of(group), at, coverage, FOREVER if group.ttl is None else duration(group.ttl) // MICROSECOND)


def empty_values(group: FeatureGroup, types: Mapping[str, str], *, kept: str | None) -> dict[str, object]:
    """What an entity without events has in each output column, as far as that is known without computing; `kept` is of a publish.

    What is derived is known from a publish alone, everything else also from the definition.
    """
    known = {} if group.aggregated else dict.fromkeys(group.outputs)
    for feature in group.aggregated:
        nothing = feature.meaning.empty
        known |= {column: None if nothing is None else default(nothing, types[column]) for column in feature.columns}
    stored = json.loads(kept or "{}")
    return known | {column: from_json(stored[column], types[column]) for column in group.outputs if column in stored}


def empty_text(values: Mapping[str, object]) -> str:
    """Empty values as a publish keeps them: JSON, by column."""
    return json.dumps({column: to_json(value) for column, value in values.items()})


def age(asked: Any, stored: Any) -> Any:
    """The seconds from a stored instant to the asker's: of microseconds as numbers or as columns of Spark, to the bit the same double."""
    return (asked - stored) / 1e6


def default(value: object, data_type: str) -> object:
    """A default as a value of its column's type: of a double 0.0 for 0, of a decimal(10,2) 0.00; arrays are tuples.

    Refuses what the type cannot hold exactly.
    """
    if is_array(data_type) and isinstance(value, tuple | list):
        return tuple(default(each, element_of(data_type)) for each in value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    try:
        return _number(value, data_type)
    except (ValueError, OverflowError, DecimalException):
        raise DefinitionError(f"the default {value!r} does not fit {articled(data_type)}; write one that it can hold exactly") from None


def to_json(value: object) -> Any:
    """A value as answers online have it: decimals as text, times in ISO 8601, arrays as tuples of these."""
    match value:
        case tuple() | list():
            return tuple(to_json(each) for each in value)
        case Decimal():
            return format(value, "f")
        case datetime():
            return iso(value)
        case date():
            return value.isoformat()
    return value


def from_json(value: Any, data_type: str) -> Any:
    """A value of its column's type from what `to_json` made of it."""
    if value is None:
        return None
    if is_array(data_type):
        return tuple(from_json(each, element_of(data_type)) for each in value)
    if data_type.startswith("decimal("):
        return Decimal(str(value))
    if data_type == "timestamp":
        return parse_instant(value)
    return date.fromisoformat(value) if data_type == "date" else value


def _number(value: float | Decimal, data_type: str) -> float | Decimal:
    """A number in the Python type of its column's: float, Decimal with all digits after the point, int."""
    if not isfinite(value):
        raise ValueError(value)
    if data_type == "double":
        return float(value)
    if data_type == "int64":
        if value != int(value) or not -(2**63) <= value < 2**63:
            raise ValueError(value)
        return int(value)
    digits, scale = digits_of(data_type)
    exact = Context(prec=digits, traps=[Inexact, InvalidOperation])
    return exact.plus(Decimal(str(value)).quantize(Decimal(1).scaleb(-scale), context=exact))
