"""What a sample of a training set's rows asks of one join, and what an engine finds for each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from feature_definitions import times
from feature_definitions.intervals import DAY, MICROSECOND, duration, instant, micros
from feature_definitions.language import FeatureGroup
from lake import readable
from lake.arrow_types import arrow_type
from spark_jobs.point_in_time import Dates
from spark_jobs.training.join import JoinAsked


class SampledVersion(NamedTuple):
    """A row as it was published once: its time, since when it is known and when it empties, in microseconds, and the columns asked for."""

    at: int
    known: int | None
    empties_at: int | None
    held: bool
    retracted: bool
    columns: Mapping[str, Any]


class FoundVersions(NamedTuple):
    """Of one row of a sample the version that it must see, and the newest that its entity has; None where there is none."""

    best: SampledVersion | None
    newest: SampledVersion | None


NOTHING = FoundVersions(None, None)


@dataclass(frozen=True, slots=True)
class AskedOfSample:
    """One join asked of each row of a sample: the entities, by the group's own keys and in their types, and the times."""

    asked: JoinAsked
    keys: Mapping[str, pa.ChunkedArray]
    times: tuple[int, ...]

    @property
    def group(self) -> FeatureGroup:
        """Whose rows are looked for."""
        return self.asked.join.group

    @property
    def by_event_time(self) -> bool:
        """Whether it does not matter when rows became known."""
        return self.asked.clock.mode == "event_time"

    @property
    def known(self) -> Mapping[tuple[str, int], int]:
        """Since when each publish of each interval counts by the clock of the join, by its id and the interval's start; microseconds.

        What never was online is not in it where that matters.
        """
        told = readable.known(self.asked.published, self.asked.clock)
        names, starts, known = (told.column(name).to_pylist() for name in ("publish_id", "start", "known"))
        return dict(zip(zip(names, starts, strict=True), known, strict=True))

    @property
    def strict(self) -> bool:
        """Whether a row of the very time that is asked for is hidden."""
        return self.asked.clock.strict and self.group.row_time == "event" and not self.group.by_snapshot

    @property
    def back(self) -> int | None:
        """How long before a time the versions lie that may hold at it, in microseconds; None if any may."""
        group = self.group
        if group.ttl is None or group.lifetime or group.by_snapshot:
            return None
        return (duration(group.ttl) + group.longest + 2 * group.cadence + DAY) // MICROSECOND

    @property
    def newest(self) -> int:
        """The end of the newest interval that was published, in microseconds."""
        return max((micros(publish.interval.end) for publish in self.asked.published.publishes), default=0)

    @property
    def dates(self) -> Dates:
        """The dates of versions that may hold at one of the times, and of those that may hold now."""
        back = self.back
        if back is None:
            return Dates()
        first, also = (instant(max(at - back, times.FIRST)).date() for at in (min(self.times), self.newest))
        return Dates(first, instant(max(self.times)).date(), also)


def question(asked: JoinAsked, sample: pa.Table, asked_at: Sequence[int]) -> AskedOfSample:
    """What a sample asks of a join, at times in microseconds."""
    pairs = zip(asked.join.group.entity.keys.items(), asked.join.keys, strict=True)
    return AskedOfSample(asked, {key: sample.column(column).cast(arrow_type(kind)) for (key, kind), column in pairs}, (*asked_at,))
