"""How fast a job writes to a store that others read meanwhile: how many of its calls are under way, and how long it rests between them."""

import math
from typing import NamedTuple

_LEAST, _MOST = 2, 25
_EACH = 250e-6
"""For so many seconds until the first answer one call is under way: about four times what the server works on one."""
_BUSY, _SHARE, _LONGEST = 3.0, 0.5, 0.02


class Told(NamedTuple):
    """How a round of calls went: for how many keys, the seconds of all its calls, and those until the first answer."""

    keys: int
    took: float
    first: float


class Pace(NamedTuple):
    """How many calls are under way at most, and the seconds that a key took at best, when nobody else was served."""

    under_way: int = _LEAST
    best: float = math.inf

    def after(self, told: Told) -> "Pace":
        """The pace after a round: the longer answers are on their way, the more calls are under way.

        A near server has one call to work on and the next: a reader waits for one at most, which it would notice most there. A far one has
        more, or it would wait for us; its readers wait for the way itself.
        """
        return Pace(min(_MOST, max(_LEAST, round(told.first / _EACH))), min(self.best, told.took / told.keys))

    def rest(self, told: Told) -> float:
        """The seconds to rest after a round: half of those for which others seem to have kept us waiting."""
        took = told.took / told.keys
        return min(_LONGEST, _SHARE * (told.took - self.best * told.keys)) if took > _BUSY * self.best else 0.0
