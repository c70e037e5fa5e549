"""Computes features on demand within their stated time: one whose function took longer is FAILED until definitions are taken up anew.

In the main thread an alarm ends the function wherever Python runs; elsewhere its time is looked at when it ends. What ends neither way
keeps its worker from giving signs of life: the parent replaces the worker, and tells the new one at which function the old one was.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from feature_definitions import OnDemandFeature

if TYPE_CHECKING:  # numpy takes memory, and is needed only where features are computed on demand
    from feature_definitions.on_demand import Values

_T = TypeVar("_T")

_AGAIN = 0.5
"""Seconds after which a function that took no notice of the alarm is rung again."""


class AtWork(Protocol):
    """Whom a worker tells at what it is, in case that it never ends."""

    def begins(self, what: str) -> None:
        """Say what is begun."""

    def ends(self) -> None:
        """Say that it ended."""


class Timed:
    """The functions that took too long are the only thing that changes; `late` are their features."""

    def __init__(self) -> None:
        """No function took too long yet."""
        self.late: set[str] = set()
        self._told: AtWork | None = None

    def tell(self, told: AtWork) -> None:
        """Tell a parent, from now on, which function is called."""
        self._told = told

    def compute(self, feature: OnDemandFeature, inputs: "Sequence[Values]", *, count: int) -> "Values":
        """A feature's values, or that it failed for all rows, once its function took too long."""
        from feature_definitions import on_demand

        if feature.name in self.late:
            return on_demand.uncomputed(feature, count=count)
        began, found = monotonic(), None
        with suppress(_TimeIsOver), self._telling(feature.name):
            found = _within(feature.limit_seconds, lambda: on_demand.compute(feature, inputs, count=count))
        if found is None or monotonic() - began > feature.limit_seconds:
            self.late.add(feature.name)
            return on_demand.uncomputed(feature, count=count)
        return found

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        if self._told is None:
            yield
            return
        self._told.begins(name)
        try:
            yield
        finally:
            self._told.ends()


class _TimeIsOver(BaseException):  # `except Exception` in a function must not take it for its own
    """Raised wherever a function is when its time is over."""


def _within(seconds: float, work: Callable[[], _T]) -> _T:
    """What some work gives; raises _TimeIsOver in it, again and again until it ends."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    ended: list[bool] = []

    def over(_number: int, _frame: Any) -> None:
        if not ended:
            raise _TimeIsOver

    before, began = signal.signal(signal.SIGALRM, over), monotonic()
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            return work()
        finally:
            ended.append(True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - began), 0.001) if left else 0.0, every)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
