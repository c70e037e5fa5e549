"""When a group runs, and which interval is the business of each run: the one place where Airflow's times become ours."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import lcm

from feature_definitions.intervals import Interval, duration, floor
from feature_definitions.language import FeatureGroup
from feature_definitions.planning.upstream import ready_after

HOUR, DAY = 3600, 86_400


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a group runs, how long its source takes, and how far back a scheduled run looks for late events."""

    group: str
    cadence: timedelta
    ready_after: timedelta
    restate_within: timedelta
    is_static: bool

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

    def interval(self, logical_date: datetime | None, *, run_after: datetime) -> Interval:
        """What a run covers: the interval that begins at its logical date.

        So the date that is named is the date that is published: by the scheduler, by a backfill and by `airflow dags test DAG 2013-01-06`.
        If none begins there (someone pressed Trigger just now), it is the newest one that was sealed by then.
        """
        if logical_date is not None and floor(logical_date, self.step) == logical_date:
            return Interval(logical_date, logical_date + self.step)
        end = floor((logical_date or run_after) - self.ready_after, self.step)
        return Interval(end - self.step, end)

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
    )
