"""How fast a job writes to a store that others read meanwhile: how many of its calls are under way, and how long it rests between them."""

import math
from typing import NamedTuple

_LEAST, _MOST = 2, 25
_BUSY, _SHARE, _LONGEST = 3.0, 0.5, 0.02
_INSTANT = 1e-6


class Told(NamedTuple):
    """How a round of calls went: for how many keys, in how many calls, the seconds of all and those until the first answer."""

    keys: int
    calls: int
    took: float
    first: float


class Pace(NamedTuple):
    """How many calls are under way at most, and the seconds that a key took at best, when nobody else was served."""

    under_way: int = _LEAST
    best: float = math.inf

    def after(self, told: Told) -> "Pace":
        """The pace after a round: as many calls under way as are answered within a round trip, and one more.

        So the server never waits for us, be it far or near, and works on one of our calls between two of others.
        """
        best = min(self.best, told.took / told.keys)
        if told.calls == 1:
            return Pace(self.under_way, best)
        each = max((told.took - told.first) / (told.calls - 1), _INSTANT)
        return Pace(min(_MOST, max(_LEAST, 1 + math.ceil(told.first / each))), best)

    def rest(self, told: Told) -> float:
        """The seconds to rest after a round: half of those for which others seem to have kept us waiting."""
        took = told.took / told.keys
        return min(_LONGEST, _SHARE * (told.took - self.best * told.keys)) if took > _BUSY * self.best else 0.0
