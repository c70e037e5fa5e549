"""What a training set rests on: a fingerprint by which an unchanged one is not built again, and the manifest that lies beside it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from feature_definitions import layout, times
from feature_definitions.intervals import instant, iso, micros
from feature_definitions.language import FeatureService, Mode
from feature_definitions.planning import fingerprint as fingerprints
from feature_definitions.records import Publish
from lake import storage
from spark_jobs import tables
from spark_jobs.point_in_time import Published
from spark_jobs.training.computed import FAILED
from spark_jobs.training.join import MODELLED
from spark_jobs.training.parts import PART, Cut
from spark_jobs.training.spine import Spine, SpineRefused, TrainingRequest

Manifest = dict[str, object]


@dataclass(frozen=True, slots=True)
class Basis:
    """What a training set rests on: its spine, what was asked, the spine's summary, each group's publishes, all and those that it sees."""

    spine: Spine
    request: TrainingRequest
    summary: Mapping[str, int]
    published: Mapping[str, Published]
    used: Mapping[str, Sequence[Publish]]


def basis(spine: Spine, request: TrainingRequest, published: Mapping[str, Published]) -> Basis:
    """What a training set of this spine rests on; one pass over the spine."""
    summary, names = _summary(spine), sorted({join.group.name for join in request.service.joins})
    used = {name: _relevant(published[name], request.mode, summary) for name in names}
    return Basis(spine, request, summary, published, used)


def _summary(spine: Spine) -> dict[str, int]:
    """Rows, first and last time (microseconds), rows without time, and a checksum that does not depend on their order."""
    at = F.unix_micros(f"`{spine.at}`")
    content = tables.fingerprint_of(spine.rows.columns)
    row = spine.rows.agg(
        F.count(F.lit(1)).alias("rows"),
        F.min(at).alias("first"),
        F.max(at).alias("last"),
        F.count_if(at.isNull()).alias("timeless"),
        F.bit_xor(content).alias("xor"),
        F.sum(F.pmod(content, F.lit(2**31))).alias("sum"),
    ).first()
    assert row is not None
    if row["timeless"]:
        raise SpineRefused(f"{row['timeless']} rows of the spine have no {spine.at}; a row without a time cannot be joined, remove it")
    if row["rows"] and not (row["first"] >= times.FIRST and row["last"] <= times.LAST):
        raise SpineRefused(f"the spine has a {spine.at} outside of the years 1 to 9999, which nothing can be joined at")
    return {name: int(row[name] or 0) for name in ("rows", "first", "last", "xor", "sum")}


def _relevant(published: Published, mode: Mode, summary: Mapping[str, int]) -> tuple[Publish, ...]:
    """The publishes that a spine up to its last time can see."""
    last = summary["last"]
    if mode == "event_time":
        return tuple(p for p in published.publishes if micros(p.interval.start) <= last)
    return tuple(p for p in published.publishes if max(micros(p.interval.start), micros(p.known_from)) <= last)


def fingerprint(of: Basis) -> str:
    """A hash of all that the rows of a training set depend on."""
    request, service = of.request, of.request.service
    parts: list[object] = [
        service.version,
        [j.outputs for j in service.joins],
        [(feature.name, fingerprints.on_demand(feature)) for feature in service.on_demand],
        sorted((name, repr(value)) for name, value in service.defaults.items()),
        request.mode,
        str(request.label),
        str(request.split),
        dict(of.summary),
        of.spine.source,
        of.spine.rows.dtypes,
    ]
    for name, publishes in of.used.items():
        group = of.published[name].group
        seen = sorted((p.publish_id, micros(p.interval.start), micros(p.known_from)) for p in publishes)
        parts += [name, of.published[name].generation, group.ttl, group.publish_delay, seen]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def described(of: Basis, joined: DataFrame, cut: Cut | None) -> Manifest:
    """What a training set rests on and what its rows hold, from one pass over them."""
    request, service, counted = of.request, of.request.service, _counted(joined, of.request.service, cut)
    return {
        "name": request.name,
        "service": service.name,
        "version": service.version,
        "mode": request.mode,
        "label": None if request.label is None else asdict(request.label),
        "split": None if cut is None else _split(cut, counted),
        "rows": counted["rows"],
        "spine": _spine(of),
        "groups": {name: _group(of.published[name].generation, publishes) for name, publishes in of.used.items()},
        "values_on_modelled_times": {join.name: counted[f"{MODELLED}{join.name}"] for join in service.joins},
        "nulls": {column: counted[column] for column in service.outputs},
        "failed": {feature.name: counted[f"{FAILED}{feature.name}"] for feature in service.on_demand},
        "defaults": {name: str(value) for name, value in service.defaults.items()},
        "assumed_always_known": sorted({join.group.name for join in service.joins if join.group.is_static}),
    }


def _counted(joined: DataFrame, service: FeatureService, cut: Cut | None) -> Row:
    """The rows, the nulls of each output, each join's values on modelled times, the rows whose function failed, those of each part."""
    nulls = [F.count_if(F.col(f"`{column}`").isNull()).alias(column) for column in service.outputs]
    modelled = [F.count_if(F.col(f"`{name}`")).alias(name) for name in (f"{MODELLED}{join.name}" for join in service.joins)]
    failed = [F.count_if(F.col(f"`{name}`")).alias(name) for name in (f"{FAILED}{feature.name}" for feature in service.on_demand)]
    names = [] if cut is None else [*cut.split.shares]
    each = [F.count_if(F.col(PART) == F.lit(name)).alias(f"{PART}_{name}") for name in names]
    (row,) = joined.agg(F.count(F.lit(1)).alias("rows"), *nulls, *modelled, *failed, *each).collect()
    return row


def _split(cut: Cut, counted: Row) -> dict[str, object]:
    """How it was cut, with the rows of each part and of none."""
    found = [part | {"rows": counted[f"{PART}_{part['name']}"]} for part in cut.described]
    in_parts = sum(counted[f"{PART}_{name}"] for name in cut.split.shares)
    return {"by": cut.split.by, "seed": cut.split.seed, "parts": found, "in_no_part": counted["rows"] - in_parts}


def _spine(of: Basis) -> dict[str, object]:
    return {
        "source": of.spine.source,
        "event_timestamp": of.spine.at,
        "first": iso(instant(of.summary["first"])) if of.summary["rows"] else None,
        "last": iso(instant(of.summary["last"])) if of.summary["rows"] else None,
        "checksum": f"{of.summary['xor'] & (2**64 - 1):016x}{of.summary['sum']:x}",
    }


def _group(generation: int, publishes: Sequence[Publish]) -> dict[str, int]:
    return {"generation": generation, "publishes": len({p.publish_id for p in publishes}), "intervals": len(publishes)}


def read(lake: str, name: str) -> Manifest | None:
    """The manifest of a training set; None if there is none that can be read."""
    try:
        held = json.loads(storage.read(layout.training_set_manifest(lake, name)))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def write(manifest: Manifest, lake: str, name: str) -> None:
    """Put a manifest beside its training set."""
    storage.write(layout.training_set_manifest(lake, name), (json.dumps(manifest, indent=2) + "\n").encode())


def delete(lake: str, name: str) -> None:
    """Delete a manifest before the table that it describes is another one."""
    storage.delete(layout.training_set_manifest(lake, name))
