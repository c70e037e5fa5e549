"""What a training row of the flights must hold, recomputed from the raw events for each row: no definition, no engine and no oracle."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import cache
from math import isclose, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.oracle import Event

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LATE = 15
Numbers = list[float]


def floor(at: datetime, to: timedelta) -> datetime:
    """The last whole hour or day."""
    return at - (at - datetime(2013, 1, 1, tzinfo=UTC)) % to


def mean(numbers: Numbers) -> float | None:
    """The mean, if there are any."""
    return sum(numbers) / len(numbers) if numbers else None


def spread(numbers: Numbers) -> float | None:
    """The deviation of a sample, of two or more."""
    if len(numbers) < 2:
        return None
    middle = sum(numbers) / len(numbers)
    return sqrt(sum((each - middle) ** 2 for each in numbers) / (len(numbers) - 1))


class Events:
    """Events of one kind, by key, the oldest first."""

    def __init__(self, events: Iterable[Event], *, key: str, time: str) -> None:
        self.time = time
        self.by_key: dict[str, list[Event]] = defaultdict(list)
        for event in sorted(events, key=lambda e: (e[time], e.get("flight_id") or "")):
            self.by_key[event[key]].append(event)
        self.times = {name: [event[time] for event in own] for name, own in self.by_key.items()}
        self.first = min(times[0] for times in self.times.values())

    def within(self, key: str, end: datetime, span: timedelta) -> list[Event]:
        """The events of `[end - span, end)`."""
        times = self.times.get(key, [])
        return self.by_key[key][bisect_left(times, end - span) : bisect_left(times, end)] if times else []

    def covers(self, end: datetime, every: timedelta) -> bool:
        """Whether any interval had ended by then."""
        return end >= floor(self.first, every) + every


def delays(events: Iterable[Event], column: str) -> Numbers:
    """The delays that are known."""
    return [event[column] for event in events if event[column] is not None]


def late(events: Sequence[Event], column: str) -> int:
    """How many were late."""
    return sum(delay > LATE for delay in delays(events, column))


def share(part: int, whole: int) -> float | None:
    """A part of a whole, if there is one."""
    return part / whole if whole else None


class Month:
    """The raw events of a month; says of each flight what was known when its delay was predicted."""

    def __init__(
        self, *, arrivals: Sequence[Event], departures: Sequence[Event], weather: Sequence[Event], planes: Sequence[Event]
    ) -> None:
        self._of_carrier = Events(arrivals, key="carrier", time="landed_at")
        self._of_aircraft = Events(arrivals, key="tailnum", time="landed_at")
        self._of_origin = Events(departures, key="origin", time="departed_at")
        self._weather = Events(weather, key="origin", time="observed_at")
        self._planes = {plane["tailnum"]: plane for plane in planes}
        self._carrier, self._aircraft, self._origin = cache(self._carrier_at), cache(self._aircraft_at), cache(self._origin_at)

    def row(self, flight: Event) -> dict[str, Any]:
        """All features of a flight."""
        at, carrier, origin, tail = (flight[name] for name in ("predict_at", "carrier", "origin", "tailnum"))
        return (
            known(self._carrier, carrier, floor(at, DAY), self._of_carrier, DAY, "carrier_delays")
            | known(self._origin, origin, floor(at, HOUR), self._of_origin, HOUR, "origin_congestion")
            | known(self._aircraft, tail, floor(at, DAY), self._of_aircraft, DAY, "aircraft_history")
            | self._seen(origin, at)
            | {f"plane_attributes__{name}": self._planes.get(tail, {}).get(name) for name in ("year", "engines", "seats")}
        )

    def _carrier_at(self, carrier: str, end: datetime) -> dict[str, Any]:
        day, week, month = (self._of_carrier.within(carrier, end, n * DAY) for n in (1, 7, 30))
        means = {f"arrival_delay_{n}d": mean(delays(some, "arrival_delay")) for n, some in ((1, day), (7, week), (30, month))}
        return means | {f"late_share_{n}d": share(late(some, "arrival_delay"), len(some)) for n, some in ((7, week), (30, month))}

    def _aircraft_at(self, tail: str, end: datetime) -> dict[str, Any]:
        day, week, month = (self._of_aircraft.within(tail, end, n * DAY) for n in (1, 7, 30))
        return {
            "landings_1d": len(day), "landings_7d": len(week), "landings_30d": len(month),
            "arrival_delay_7d": mean(delays(week, "arrival_delay")), "arrival_delay_30d": mean(delays(month, "arrival_delay")),
            "arrival_delay_spread_30d": spread(delays(month, "arrival_delay")),
            "last_delay_7d": next(reversed(delays(week, "arrival_delay")), None),
            "miles_7d": sum(event["distance"] for event in week if event["distance"] is not None),
        }  # fmt: skip

    def _origin_at(self, origin: str, end: datetime) -> dict[str, Any]:
        hour, three, day = (self._of_origin.within(origin, end, n * HOUR) for n in (1, 3, 24))
        return {
            "departures_1h": len(hour), "departures_3h": len(three), "departures_24h": len(day),
            **{f"departure_delay_{n}h": mean(delays(some, "departure_delay")) for n, some in ((1, hour), (3, three), (24, day))},
            "worst_delay_3h": max(delays(three, "departure_delay"), default=None), "delayed_3h": late(three, "departure_delay"),
            "carriers_24h": len({event["carrier"] for event in day}), "delayed_share_3h": share(late(three, "departure_delay"), len(three)),
        }  # fmt: skip

    def _seen(self, origin: str, at: datetime) -> dict[str, Any]:
        """The weather that was observed last, as known when its hour was over, for six hours."""
        hour = floor(at, HOUR)
        found = self._weather.within(origin, hour, 40 * DAY)
        newest = found[-1] if found and at - found[-1]["observed_at"] <= 6 * HOUR else {}
        columns = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")
        return {f"weather_at_origin__{name}": newest.get(name) for name in columns}


def known(
    found: Callable[[str, datetime], dict[str, Any]], key: str | None, end: datetime, events: Events, every: timedelta, group: str
) -> dict[str, Any]:
    """A group's features; null of nobody, and before anything was published."""
    values = found(key or "", end)
    is_known = key is not None and events.covers(end, every)
    return {f"{group}__{name}": value if is_known else None for name, value in values.items()}


def differs(want: Any, got: Any) -> bool:
    """Whether two values differ by more than the order of a sum."""
    if isinstance(want, float) and isinstance(got, float):
        return not isclose(want, got, rel_tol=1e-9, abs_tol=1e-9)
    return bool(want != got)
