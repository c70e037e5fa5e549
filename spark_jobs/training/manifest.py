"""What a training set rests on: a fingerprint by which an unchanged one is not built again, and the manifest that lies beside it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import reduce
from operator import xor

from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from feature_definitions import times
from feature_definitions.counted import counted
from feature_definitions.intervals import instant, iso, micros
from feature_definitions.language import FeatureService, Mode, Source
from feature_definitions.planning import fingerprint as fingerprints
from feature_definitions.records import Publish
from lake import readable
from lake.readable import Published
from lake.training_sets import Manifest
from spark_jobs import tables
from spark_jobs.training import checksum, order, statistics
from spark_jobs.training import spine as spines
from spark_jobs.training.certainty import certainties
from spark_jobs.training.computed import FAILED, shown
from spark_jobs.training.finish import DatedBy
from spark_jobs.training.join import CASE, MODELLED
from spark_jobs.training.parts import PART, Cut
from spark_jobs.training.provenance import Versions
from spark_jobs.training.spine import Spine, SpineRefused, TrainingRequest
from spark_jobs.training.statistics import ColumnsLookedAt, Places, Statistics

Computed = Sequence[tuple[datetime, Mapping[str, str]]]
"""As what intervals were computed: since which start, and the fingerprint of each column."""

_LAYOUT = 6
"""Which columns and partitions a table has, and what its manifest tells: one of another layout is built again."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a training set rests on: its spine, what was asked, the spine's summary and its rows by date (days since 1970), each
    group's publishes, all and those that it sees; as it was served also how sure that is, by group.

    `left_out` rows have labels that may still change, the first of them until `ripens_at` (microseconds).

    `contents` says by date how many rows the spine has, and their checksum. Of a part of a spine `first_place` is the place of its first
    row, and `dated` is by what the whole is parted.
    """

    spine: Spine
    request: TrainingRequest
    summary: Mapping[str, int]
    days: Mapping[int, int]
    published: Mapping[str, Published]
    used: Mapping[str, Sequence[Publish]]
    left_out: int = 0
    ripens_at: int | None = None
    served: Mapping[str, Mapping[str, int]] | None = None
    contents: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    first_place: int = 0
    dated: DatedBy | None = None

    @property
    def dates(self) -> int:
        """How many partitions there are."""
        return len(
            self.days if self.dated_by == "day" else {(on.year, on.month) for on in (date.fromordinal(_EPOCH + day) for day in self.days)}
        )

    @property
    def dated_by(self) -> DatedBy:
        """What a partition holds: a day, or a month where days would hold few rows, since small files cost more than their rows."""
        return self.dated or ("day" if self.summary["rows"] >= _ROWS_OF_A_DAY * len(self.days) else "month")


_ROWS_OF_A_DAY = 10_000
_EPOCH = date(1970, 1, 1).toordinal()


def basis(spine: Spine, request: TrainingRequest, published: Mapping[str, Published], *, now: datetime) -> Basis:
    """What a training set of this spine rests on, without the rows whose labels may still change; one pass over the spine."""
    every = _days(spine, spines.is_young(spine, request, now))
    young = sum(row["rows"] for row in every if row["young"])
    days = [row for row in every if not row["young"] or _leaves_none_out(request)]
    summary, names = _summary(spine, days), sorted({join.group.name for join in request.service.joins})
    spine = spines.mature(spine, request, now, young=young)
    used = {name: _relevant(published[name], request.mode, summary) for name in names}
    asked = {name: published[name] for name in names}
    served = certainties(spine, asked, request.service.joins) if request.mode == "as_served" else None
    contents = {row["day"]: (row["rows"], row["xor"], row["sum"]) for row in days}
    counts = {row["day"]: row["rows"] for row in days}
    ripens_at = spines.ripe(request, min((row["first"] for row in every if row["young"]), default=None))
    return Basis(spine, request, summary, counts, published, used, young, ripens_at, served=served, contents=contents)


def _leaves_none_out(request: TrainingRequest) -> bool:
    return request.label is None or request.label.immature == "refuse"


def _days(spine: Spine, young: Column) -> list[Row]:
    """Of each date of a spine, the young rows and those without time apart: rows, first and last time (microseconds), and a checksum."""
    at = F.unix_micros(f"`{spine.at}`")
    content = tables.fingerprint_of(spine.rows.columns)
    return (
        spine.rows.groupBy(order.day(spine.at).alias("day"), young.alias("young"))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.min(at).alias("first"),
            F.max(at).alias("last"),
            F.bit_xor(content).alias("xor"),
            F.sum(F.pmod(content, F.lit(2**31))).alias("sum"),
        )
        .collect()
    )


def _summary(spine: Spine, days: Sequence[Row]) -> dict[str, int]:
    """Rows, first and last time, and the checksum of a spine as a whole."""
    timeless = sum(day["rows"] for day in days if day["day"] is None)
    if timeless:
        have = "has" if timeless == 1 else "have"
        what = f"{counted(timeless, 'row')} of the spine {have} no {spine.at}"
        raise SpineRefused(f"{what}; a row without a time cannot be joined, remove it")
    first, last = min((day["first"] for day in days), default=0), max((day["last"] for day in days), default=0)
    if not (first >= times.FIRST and last <= times.LAST):
        raise SpineRefused(f"the spine has a {spine.at} outside of the years 1 to 9999, which nothing can be joined at")
    sums = {name: sum(day[name] for day in days) for name in ("rows", "sum")}
    return sums | {"first": first, "last": last, "xor": reduce(xor, (day["xor"] for day in days), 0)}


def _relevant(published: Published, mode: Mode, summary: Mapping[str, int]) -> tuple[Publish, ...]:
    """The publishes that a spine up to its last time can see."""
    last = summary["last"]
    if mode == "event_time":
        return tuple(p for p in published.publishes if micros(p.interval.start) <= last)
    return tuple(p for p in published.publishes if max(micros(p.interval.start), micros(p.known_from)) <= last)


def fingerprint(of: Basis, computed: Mapping[str, Computed]) -> str:
    """A hash of all that the rows of a training set depend on; `computed` says as what the intervals of each group were computed."""
    service = of.request.service
    parts: list[object] = [
        *_asked(of.request),
        dict(of.summary),
        [of.spine.source, *sorted(of.spine.reads)],
        of.spine.rows.dtypes,
    ]
    for name, publishes in of.used.items():
        group = of.published[name].group
        parts += [name, of.published[name].generation, group.ttl, group.publish_delay, _seen(publishes)]
        parts += _as_served(of.published[name]) if of.served is not None else []
        parts.append(_meanings(computed.get(name, ()), _asked_of(service, name), until=of.summary["last"]))
    return _hash(parts)


def resting(
    source: Source, request: TrainingRequest, published: Mapping[str, Published], computed: Mapping[str, Computed], *, of: Versions
) -> str:
    """A hash of all that the rows of a training set of a source depend on, by versions alone: where it is the same, they are.

    `of` are the tables that the source is read from, and its sources, each with its version. What no row sees may change it, too.
    """
    parts: list[object] = [*_asked(request), source.name, fingerprints.of_source(source), sorted(of.items())]
    for name in sorted({join.group.name for join in request.service.joins}):
        each = published[name]
        parts += [name, each.generation, each.group.ttl, each.group.publish_delay, _seen(each.publishes)]
        parts += _as_served(each) if request.mode == "as_served" else []
        parts.append([[micros(start), sorted(features.items())] for start, features in computed.get(name, ())])
    return _hash(parts)


def _asked(request: TrainingRequest) -> list[object]:
    return [
        _LAYOUT,
        fingerprints.service(request.service),
        request.mode,
        str(request.label),
        str(request.split),
        request.statuses,
        [(column, str(each), each.severity) for column, each in request.expect],
    ]


def _as_served(published: Published) -> list[object]:
    """What the answers of serving rest on besides what was published."""
    return [readable.certainty(published), readable.online_states(published), readable.erased(published)]


def _seen(publishes: Sequence[Publish]) -> list[tuple[str, int, int]]:
    return sorted((p.publish_id, micros(p.interval.start), micros(p.known_from)) for p in publishes)


def _hash(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _asked_of(service: FeatureService, group: str) -> list[str]:
    """The columns of a group that a service asks for."""
    return sorted({column for join in service.joins if join.group.name == group for column in join.columns})


def _meanings(computed: Computed, columns: Sequence[str], *, until: int) -> list[object]:
    """As what columns were computed in the intervals up to a time: one that is added to rows leaves their publishes as they are."""
    found: list[object] = []
    held: list[str | None] = []
    for start, features in computed:
        meant = [features.get(column) for column in columns]
        if micros(start) <= until and meant != held:
            found.append([micros(start), meant])
            held = meant
    return found


def look(of: Basis) -> ColumnsLookedAt:
    """What is looked at of the rows of a training set."""
    service = of.request.service
    found = [f"{mark}{join.name}" for join in service.joins for mark in (MODELLED, CASE)]
    found += [f"{FAILED}{feature.name}" for feature in service.on_demand]
    cut = [] if of.request.split is None else [PART]
    return ColumnsLookedAt(service.outputs, (*found, *cut), tuple(dict.fromkeys((*service.asked, of.spine.at, *service.outputs, *cut))))


def described(of: Basis, found: Statistics, cut: Cut | None, *, types: Mapping[str, str]) -> Manifest:
    """What a training set rests on and what its rows hold; they must be those of the spine, each once. `types` are its columns'."""
    request, service = of.request, of.request.service
    _refuse_other_rows(of, found)
    return {
        "name": request.name,
        "service": service.name,
        "version": service.version,
        "mode": request.mode,
        "label": None if request.label is None else {"column": request.label.column, "horizon": request.label.horizon},
        "split": None if cut is None else _split(cut, found),
        "rows": found.rows,
        **checked(found.rows, found.checksums, types),
        **({} if of.served is None else {"served": {name: dict(counts) for name, counts in of.served.items()}}),
        "hw_date": of.dated_by,
        "spine": _spine(of),
        "groups": {name: _group(of.published[name].generation, publishes) for name, publishes in of.used.items()},
        "seen": {name: seen(each) for name, each in of.published.items() if name in of.used},
        "values_on_modelled_times": {join.name: found.count(f"{MODELLED}{join.name}", True) for join in service.joins},
        "nulls": {column: found.nulls(column) for column in service.outputs},
        "failed": {feature.name: found.count(f"{FAILED}{feature.name}", True) for feature in service.on_demand},
        "defaults": {name: str(value) for name, value in service.defaults.items()},
        "statistics": _statistics(service, found),
        "assumed_always_known": sorted({join.group.name for join in service.joins if join.group.is_static}),
    }


def checked(rows: int, sums: Mapping[str, int], types: Mapping[str, str]) -> Manifest:
    """The columns with their types and checksums, and the checksum of all, as a manifest holds them."""
    columns = {name: (types[name], checksum.text(total)) for name, total in sums.items()}
    named = {name: {"type": kind, "checksum": total} for name, (kind, total) in columns.items()}
    return {"checksum": checksum.whole(rows, columns), "columns": named}


def seen(published: Published) -> dict[str, object]:
    """Which publishes of a group there were: how many, the newest one, and a hash of all; and what else its rows are read by."""
    ids = sorted({each.publish_id for each in published.publishes})
    group = published.group
    return {
        "publishes": len(ids),
        "newest": ids[-1] if ids else None,
        "digest": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "ttl": group.ttl,
        "publish_delay": group.publish_delay,
    }


def _refuse_other_rows(of: Basis, found: Statistics) -> None:
    """Raise unless there are as many rows as in the spine, with the places from 0 on: their sum tells of one that is there twice."""
    rows, first = of.summary["rows"], of.first_place
    expected = (rows, Places(rows * (2 * first + rows - 1) // 2, first, first + rows - 1) if rows else Places(0, None, None))
    if (found.rows, found.places) != expected:
        places = f"the places {found.places.first} to {found.places.last} (their sum: {found.places.sum})"
        what = f"{rows} rows of the spine became {found.rows}, with {places}"
        raise AssertionError(f"training set {of.request.name}: {what}; this is a defect, nothing was written")


def _split(cut: Cut, found: Statistics) -> dict[str, object]:
    """How it was cut, with the rows of each part and of none."""
    parts = [part | {"rows": found.count(PART, part["name"])} for part in cut.described]
    return {"by": cut.split.by, "seed": cut.split.seed, "parts": parts, "in_no_part": found.count(PART, None)}


def _statistics(service: FeatureService, found: Statistics) -> dict[str, object]:
    """What the features hold, and how the rows of each join were found."""
    types = shown(service) | {feature.name: feature.type for feature in service.on_demand}
    return {
        "features": {name: statistics.described(found.columns.get(name), types[name]) for name in service.outputs},
        "joins": {
            join.name: statistics.statuses(found, case=f"{CASE}{join.name}", modelled=f"{MODELLED}{join.name}") for join in service.joins
        },
    }


def _spine(of: Basis) -> dict[str, object]:
    return {
        "source": of.spine.source,
        "event_timestamp": of.spine.at,
        "left_out": of.left_out,
        "first": iso(instant(of.summary["first"])) if of.summary["rows"] else None,
        "last": iso(instant(of.summary["last"])) if of.summary["rows"] else None,
        "checksum": checksum_of(of),
    }


def checksum_of(of: Basis) -> str:
    """The checksum of a spine's rows, as a manifest spells it."""
    return f"{of.summary['xor'] & (2**64 - 1):016x}{of.summary['sum']:x}"


def _group(generation: int, publishes: Sequence[Publish]) -> dict[str, int]:
    return {"generation": generation, "publishes": len({p.publish_id for p in publishes}), "intervals": len(publishes)}
