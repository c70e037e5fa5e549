"""A group's generation as it can be read: where it lies, what it means, and since when each of its publishes is known. Needs no Spark."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from feature_definitions import layout
from feature_definitions.intervals import instant, micros
from feature_definitions.language import FeatureGroup, Mode
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import ColumnTypes
from lake import delta

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Published:
    """A group's generation as it can be read: where it lies, what it means, and since when each publish is known.

    `empty` is the generation's: what its columns hold for an entity without events, as its last publish kept it.
    """

    group: FeatureGroup
    generation: int
    lake: str
    types: ColumnTypes
    publishes: tuple[Publish, ...]
    empty: str | None = None


@dataclass(frozen=True, slots=True)
class AsOf:
    """How time is read: `as_known` sees a row from `max(T, known_from)`, `event_time` from `T` on, in its newest correction.

    `strict` sees observations only after their own time (T < t): the spine's own events must not explain themselves.
    """

    mode: Mode = "as_known"
    strict: bool = False


def known(published: Published) -> "pa.Table":
    """When each publish of each interval became known: `publish_id`, `start` and `known` in microseconds, `modelled`, the `order`.

    What is not in it never was published.
    """
    import pyarrow as pa

    order = {name: n for n, name in enumerate(sorted({p.publish_id for p in published.publishes}))}
    rows = {
        "publish_id": [p.publish_id for p in published.publishes],
        "start": [micros(p.interval.start) for p in published.publishes],
        "known": [micros(p.known_from) for p in published.publishes],
        "modelled": [p.basis == "MODELLED" for p in published.publishes],
        "order": [order[p.publish_id] for p in published.publishes],
    }
    kinds = {"publish_id": pa.string(), "start": pa.int64(), "known": pa.int64(), "modelled": pa.bool_(), "order": pa.int64()}
    return pa.table(rows, schema=pa.schema([*kinds.items()]))


def falls_back(published: Published, clock: AsOf) -> bool:
    """Whether rows may have been retracted, so that readers fall back to the ones before: windowed rows never vanish."""
    history = layout.history_table(published.lake, published.group.name, published.generation)
    return clock.mode != "event_time" and not published.group.keeps_rows and delta.exists(history)


def coverage(published: Published, clock: AsOf) -> tuple[tuple[int, int], ...]:
    """When which coverage began, as (visible from, newest visible interval end) in microseconds, both strictly rising."""
    visible: dict[int, int] = {}
    for publish in published.publishes:
        end = micros(publish.interval.end)
        seen = end if clock.mode == "event_time" else max(end, micros(publish.known_from))
        visible[end] = min(seen, visible.get(end, seen))
    steps: list[tuple[int, int]] = []
    for seen, end in sorted((seen, end) for end, seen in visible.items()):
        if steps and end <= steps[-1][1]:
            continue
        if steps and steps[-1][0] == seen:
            steps.pop()
        steps.append((seen, end))
    return tuple(steps)


def covered(published: Published, now: datetime) -> datetime | None:
    """The group's coverage as it is known `now`: the newest visible interval end."""
    ends = [end for seen, end in coverage(published, AsOf()) if seen <= micros(now)]
    return instant(ends[-1]) if ends else None
