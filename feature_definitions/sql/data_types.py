"""The types of values: what each is made of, and which values of one are values of another. Imports nothing of ours."""

import re
from collections.abc import Sequence

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


def is_number(data_type: str) -> bool:
    """Whether a type is one of numbers."""
    return data_type in ("int64", "double") or is_decimal(data_type)


def is_decimal(data_type: str) -> bool:
    """Whether a type is one of decimals."""
    return data_type.startswith("decimal")


def is_array(data_type: str) -> bool:
    """Whether a type holds several values."""
    return data_type.startswith("array<")


def element_of(data_type: str) -> str:
    """The type of an array's values."""
    return data_type.removeprefix("array<").removesuffix(">")


def digits_of(data_type: str) -> tuple[int, int]:
    """The digits in all and after the point; an int64 has 20, as in Spark."""
    match = _DECIMAL.fullmatch(data_type)
    return (int(match[1]), int(match[2])) if match else (20, 0)


def decimal(digits: int, scale: int) -> str:
    """A decimal of so many digits; beyond 38 a double."""
    return f"decimal({digits},{scale})" if digits <= 38 else "double"


def widest(data_types: Sequence[str]) -> str:
    """The type that holds each of several numbers."""
    if "double" in data_types:
        return "double"
    digits = [digits_of(data_type) for data_type in data_types]
    scale = max(after for _, after in digits)
    return decimal(max(all_digits - after for all_digits, after in digits) + scale, scale)


def fits(given: str, wanted: str) -> bool:
    """Whether every value of one type is one of another; so is nothing but null."""
    if is_array(given) and is_array(wanted):
        return fits(element_of(given), element_of(wanted))
    if is_decimal(given) and is_decimal(wanted):
        (digits, scale), (most, after) = digits_of(given), digits_of(wanted)
        return scale <= after and digits - scale <= most - after
    return given in (wanted, "null")


def may_hold(given: str, wanted: str) -> bool:
    """Whether a source may say that a column of one type is of another: its values fit, or are whole numbers, which fit one by one."""
    if is_array(given) and is_array(wanted):
        return may_hold(element_of(given), element_of(wanted))
    return fits(given, wanted) or (given == "int64" and is_number(wanted))


def family(data_type: str) -> str:
    """What a type is compared with: numbers with numbers, times with times, all else with its like."""
    return "number" if is_number(data_type) else "time" if data_type in ("date", "timestamp") else data_type


def articled(data_type: str) -> str:
    """A type with its article, for a sentence."""
    return f"{'an' if data_type[0] in 'aeiou' else 'a'} {data_type}"
