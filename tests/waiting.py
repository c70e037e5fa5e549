"""Waiting for what another process does, and how long something takes, on machines that stand still now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def until(holds: Callable[[], object], *, seconds: float = 60, pause: float = 0.05) -> None:
    """Look again and again until something holds; an AssertionError where it does not after so long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it did not come true within {seconds:g} s"
        time.sleep(pause)


def quickest(attempt: Callable[[], object], *, below: float, tries: int = 5) -> float:
    """The seconds that the quickest of a few tries took; the first below the limit ends them."""
    found = float("inf")
    for _ in range(tries):
        begun = time.monotonic()
        attempt()
        found = min(found, time.monotonic() - begun)
        if found < below:
            break
    return found
