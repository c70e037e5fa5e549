"""When a group runs, and which interval is the business of each run: the one place where Airflow's times become ours."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import lcm

from feature_definitions.intervals import Interval, duration, floor, iso, parse_instant
from feature_definitions.language import FeatureGroup, Source
from feature_definitions.planning.upstream import ready_after

HOUR, DAY = 3600, 86_400


class KeyRefused(ValueError):
    """A partition key that names no interval of a group."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a group runs, how long its source takes, how far back a scheduled run looks for late events, which groups it reads."""

    group: str
    cadence: timedelta
    ready_after: timedelta
    restate_within: timedelta
    is_static: bool
    reads: tuple[str, ...] = ()

    @property
    def step(self) -> timedelta:
        """What one run covers: one interval; of a cadence that cron cannot say (like 90m), those of the fewest whole hours."""
        seconds = int(self.cadence.total_seconds())
        return self.cadence if seconds % 60 == 0 and HOUR % seconds == 0 else timedelta(seconds=lcm(seconds, HOUR))

    @property
    def cron(self) -> str:
        """When runs begin: at the ends of their intervals, which lie on the grid from midnight UTC."""
        seconds = int(self.step.total_seconds())
        if seconds == DAY:
            return "0 0 * * *"
        if seconds == HOUR:
            return "0 * * * *"
        return f"*/{seconds // 60} * * * *" if seconds < HOUR else f"0 */{seconds // HOUR} * * *"

    @property
    def most_runs(self) -> int:
        """How many runs go on at once: one at work, and those that wait for the source."""
        return 1 if self.is_static else 1 - (-self.ready_after // self.step)

    @property
    def key_format(self) -> str:
        """How partition keys are written: the date on which a run's interval begins, with the time where a day has several."""
        return "%Y-%m-%d" if int(self.step.total_seconds()) == DAY else "%Y-%m-%dT%H:%M"

    def key(self, interval: Interval) -> str:
        """The partition key of a run's interval."""
        return interval.start.strftime(self.key_format)

    def key_of(self, start: str) -> str:
        """The partition key of the run whose interval has one of the group's intervals, which begins at a time that is written out."""
        return floor(parse_instant(start), self.step).strftime(self.key_format)

    def of_key(self, key: str) -> Interval:
        """The interval of a partition key; raises KeyRefused for one that names none."""
        try:
            start = datetime.strptime(key, self.key_format).replace(tzinfo=UTC)
        except ValueError:
            raise self._refused(key) from None
        if floor(start, self.step) != start:
            raise self._refused(key)
        return Interval(start, start + self.step)

    def _refused(self, key: str) -> KeyRefused:
        example = floor(datetime(2026, 1, 5, 12, tzinfo=UTC), self.step).strftime(self.key_format)
        return KeyRefused(f"{key!r} names no interval of {self.group}; write the time at which one begins, like {example}")

    def named(self, span: Interval) -> str:
        """A span as a person calls it: its date or time, or from the first one to the last."""
        if self.is_static:
            return "its only interval"
        first, last = self.key(span), (span.end - self.step).strftime(self.key_format)
        return first if first == last else f"{first} to {last}"

    def asked(self, span: Interval) -> Interval | None:
        """The range of a command that is about a span; a static group has no times."""
        return None if self.is_static else span

    def interval(self, logical_date: datetime | None, *, run_after: datetime, key: str | None = None) -> Interval:
        """What a run covers: the interval of its partition key, else the one that begins at its logical date.

        So the date that is named is the date that is published: by the scheduler, by a backfill and by `airflow dags test DAG 2013-01-06`.
        If none is named (someone pressed Trigger just now), it is the newest one that was sealed by then.
        """
        if key is not None:
            return self.of_key(key)
        if logical_date is not None and floor(logical_date, self.step) == logical_date:
            return Interval(logical_date, logical_date + self.step)
        end = self.sealed_by(logical_date or run_after)
        return Interval(end - self.step, end)

    def sealed_by(self, moment: datetime) -> datetime:
        """The end of the newest interval of a run that was sealed by a moment."""
        return floor(moment - self.ready_after, self.step)

    def first_run(self, day: date) -> datetime:
        """When the run begins that covers the first interval of a day (UTC)."""
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + self.step

    def restated(self, interval: Interval) -> Interval:
        """What a scheduled run makes good: its interval, and those before it that late events may have changed."""
        return Interval(floor(interval.start - self.restate_within, self.cadence), interval.end)

    def sealed_at(self, interval: Interval) -> datetime:
        """When the source has all of an interval; a static source always has."""
        return interval.start if self.is_static else interval.end + self.ready_after


def schedule_of(group: FeatureGroup) -> Schedule:
    """The schedule that a group's definition asks for."""
    return Schedule(
        group=group.name,
        cadence=group.cadence,
        ready_after=ready_after(group),
        restate_within=duration(group.restate_within),
        is_static=group.is_static,
        reads=tuple(sorted({each.name for each in group.inputs if not isinstance(each, Source)})),
    )


def range_of(span: Interval | None) -> tuple[str, ...]:
    """The options that say a span."""
    return () if span is None else ("--from", iso(span.start), "--to", iso(span.end))
