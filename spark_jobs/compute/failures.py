"""What Spark raises because of a value: of which rows or intervals it is, nobody knows, but which source or group is computed."""

import contextlib
import textwrap
from collections.abc import Callable, Iterator

from pyspark.errors import (
    ArithmeticException,
    ArrayIndexOutOfBoundsException,
    DateTimeException,
    IllegalArgumentException,
    NumberFormatException,
    PySparkException,
    SparkRuntimeException,
)

from feature_definitions.errors import UserError

OF_VALUES = (
    ArithmeticException,
    ArrayIndexOutOfBoundsException,
    DateTimeException,
    IllegalArgumentException,
    NumberFormatException,
    SparkRuntimeException,
)
"""What Spark raises in ANSI mode where an expression has no value for what it is given, and now and then for other reasons."""


class NotComputed(UserError):
    """A source or a group of which some expression has no value for some row, which could not be left out alone."""


@contextlib.contextmanager
def failing_alone(what: str, *, because: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Raise what Spark raises because of a value as one sentence about `what` is computed; `because` may know better than Spark why."""
    try:
        yield
    except OF_VALUES as error:
        if not is_of_a_value(error):
            raise
        raise NotComputed(
            f"{what} cannot be computed: {because() or sentence(error)}; correct the rows, or write try_cast and the like"
        ) from error


def is_of_a_value(error: Exception) -> bool:
    """Whether an error is of a value: what Java itself calls an illegal argument has no condition, and is one of an option or a path."""
    return not isinstance(error, IllegalArgumentException) or error.getCondition() is not None


def sentence(error: PySparkException) -> str:
    """What Spark says is wrong, in one sentence."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(first.split(". ")[0].rstrip("."), 240, placeholder=" ...")
