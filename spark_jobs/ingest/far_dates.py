"""Which rows of a source's table are read and which lie aside, because their dates lie far from all others (`planning.far`).

Those that lie aside are in a partition of their own, whatever their date, so that the next ingest finds them without looking for them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from feature_definitions.intervals import DAY, MICROSECOND, instant, micros, utc_date
from feature_definitions.layout import ASIDE, ASIDE_DATE, DATE, LIVE, TIME
from feature_definitions.planning import far
from feature_definitions.planning.far import Aside, Bound
from feature_definitions.planning.revisions import rows_by_date
from lake import delta, delta_files
from spark_jobs.ingest.journal import Ingest


@dataclass(frozen=True, slots=True)
class Apart:
    """How many rows of each date hold, by whether they lie within the source's outer bound; `read` is the bound of what is read."""

    within: Mapping[date, int]
    outside: Mapping[date, int]
    read: Bound

    @property
    def before(self) -> dict[date, int]:
        """How many rows there are of each date that lies whole before what is read."""
        return {day: n for day, n in self.within.items() if n and self.read.first - far.midnight(day) >= DAY}

    @property
    def aside(self) -> dict[date, int]:
        """How many rows of each date lie aside."""
        before = self.before
        days = before.keys() | {day for day, n in self.outside.items() if n}
        return {day: before.get(day, 0) + self.outside.get(day, 0) for day in sorted(days)}

    def of(self, job: Ingest) -> Aside:
        """What lies aside, with the first date of which rows are read."""
        kept = (day for day, n in self.within.items() if n and self.read.first - far.midnight(day) < DAY)
        return Aside(job.source, self.aside, self.read, min(kept, default=None))


def split(job: Ingest, within: Mapping[date, int], outside: Mapping[date, int]) -> Apart:
    """The rows of a source by the bound that they have together."""
    return Apart(within, outside, far.bound(job.source, rows=within, now=job.now))


def is_inside(read: Bound) -> Column:
    """Whether a row's time is read: exact at both ends of time."""
    at = F.unix_micros(TIME)
    return (at >= micros(read.first)) & (at < micros(read.last))


def live_rows(job: Ingest) -> dict[date, int]:
    """How many rows of each date are read, as the last ingest left it."""
    return rows_by_date(job.context.registry.revisions(job.source.name))


def by_date(rows: Mapping[date, int], around: Bound) -> tuple[dict[date, int], dict[date, int]]:
    """The dates that have a part within a bound, and the others."""
    inner = {day: n for day, n in rows.items() if far.midnight(day) < around.last and around.first - far.midnight(day) < DAY}
    return inner, {day: n for day, n in rows.items() if day not in inner}


def any_aside(table: str) -> bool:
    """Whether rows of a source's table lie aside, by its log."""
    return bool(delta_files.footprint(table, partition=DATE, dates=[ASIDE_DATE])[0])


def to_look_at(job: Ingest, live: Iterable[date]) -> set[date]:
    """The partitions that any ingest looks at: that of the rows aside, and of dates of which a bound lets some instants pass."""
    around = far.outer(job.source, now=job.now)
    return {day for day in live if around.cuts(day)} | ({ASIDE_DATE} if any_aside(job.table) else set())


def moves(job: Ingest) -> bool:
    """Whether rows that lie aside are to be read now, or the reverse, though no file changed: time passed, or the definition changed."""
    source, live = job.source, live_rows(job)
    if source.event_timestamp is None or not delta.exists(job.table):
        return False
    around = far.outer(source, now=job.now)
    aside = [at for at in _times_aside(job.table) if micros(around.first) <= at < micros(around.last)]
    within, outside = by_date(live, around)
    for at in aside:
        day = utc_date(instant(at))
        within[day] = within.get(day, 0) + 1
    read = split(job, within, outside).read
    return any(micros(read.first) <= at for at in aside) or any(_leaves(day, read, job.table) for day in live)


def _times_aside(table: str) -> list[int]:
    """When the rows happened that lie aside, in microseconds."""
    return delta.instants(table, TIME, [f"{DATE} = {delta.literal(ASIDE_DATE)}", ASIDE]) if any_aside(table) else []


def _leaves(day: date, read: Bound, table: str) -> bool:
    """Whether a date has live rows that are not to be read."""
    if read.holds(far.midnight(day)) and read.holds(far.midnight(day) + (DAY - MICROSECOND)):
        return False
    if not read.cuts(day):
        return True
    return any(not read.holds(instant(at)) for at in delta.instants(table, TIME, [f"{DATE} = {delta.literal(day)}", LIVE]))
