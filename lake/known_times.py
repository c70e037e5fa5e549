"""Since when each row of a group's tables is known, whole columns at a time, by its publish and its interval."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import readable
from lake.readable import AsOf, Published

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
Marks = np.ndarray[tuple[int], np.dtype[np.bool_]]

_AS_KNOWN = AsOf()


class SinceWhen(NamedTuple):
    """Of each row since when its publish is known, the place of that among all, if the time is modelled, and if it ever was published.

    Of a row that never was the others say nothing.
    """

    since: Numbers
    order: Numbers
    modelled: Marks
    ever: Marks


@dataclass(frozen=True, slots=True)
class KnownTimes:
    """When each publish of each interval became known, in microseconds: `pairs` are numbers of (publish, interval), in order."""

    publishes: pa.Array
    starts: Numbers
    pairs: Numbers
    times: Numbers
    modelled: Marks

    @classmethod
    def of(cls, published: Published, clock: AsOf = _AS_KNOWN) -> "KnownTimes":
        """What `readable.known` tells."""
        known = readable.known(published, clock)
        publishes = pa.array(sorted({each.publish_id for each in published.publishes}), pa.string())
        starts = np.unique(known.column("start").to_numpy())
        pairs = known.column("order").to_numpy() * max(len(starts), 1) + np.searchsorted(starts, known.column("start").to_numpy())
        by_pair = np.argsort(pairs)
        return cls(
            publishes, starts, pairs[by_pair], known.column("known").to_numpy()[by_pair], known.column("modelled").to_numpy()[by_pair]
        )

    def when(self, publish_ids: pa.Array, starts: Numbers) -> SinceWhen:
        """Since when rows are known, by their publishes and the starts of their intervals in microseconds."""
        order = self._order(publish_ids)
        if not len(self.pairs):
            never = np.zeros(len(starts), bool)
            return SinceWhen(np.zeros(len(starts), np.int64), order, never, never)
        place = np.minimum(np.searchsorted(self.starts, starts), len(self.starts) - 1)
        wanted = order * len(self.starts) + place
        at = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        ever = (order >= 0) & (self.starts[place] == starts) & (self.pairs[at] == wanted)
        return SinceWhen(self.times[at], order, self.modelled[at], ever)

    def _order(self, publish_ids: pa.Array) -> Numbers:
        """The place of each publish among all, -1 of one that never was."""
        if isinstance(publish_ids, pa.DictionaryArray):
            places = np.append(self._order(publish_ids.dictionary), -1)
            found: Numbers = places[pc.fill_null(publish_ids.indices, len(places) - 1).to_numpy(zero_copy_only=False)]
            return found
        return np.asarray(pc.fill_null(pc.index_in(publish_ids, value_set=self.publishes), -1)).astype(np.int64)
