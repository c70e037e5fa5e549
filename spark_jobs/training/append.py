"""Appends to a training set the rows that came to its spine: the partitions from the first date on whose rows are others are joined.

The rows of earlier dates stay as they lie there, which is right only if a whole build would give them again: else it is refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, NamedTuple, cast

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import iso
from feature_registry import subjects
from feature_registry.registry import PATIENCE
from lake import training_sets
from lake.training_sets import BuiltVersion, Manifest
from spark_jobs import tables, workers
from spark_jobs.context import Context
from spark_jobs.publish.validate import Judge
from spark_jobs.training import build, finish, gate, kept_rows, manifest, order, parts, past, provenance, statistics, unmoved
from spark_jobs.training import spine as spine_rows
from spark_jobs.training.build import Built
from spark_jobs.training.manifest import Basis
from spark_jobs.training.parts import Cut
from spark_jobs.training.past import Said
from spark_jobs.training.spine import Spine, TrainingRequest
from spark_jobs.training.statistics import Statistics
from spark_jobs.training.unmoved import NotAsBefore
from spark_jobs.training.verify import Rests

_EPOCH = date(1970, 1, 1)


def append(of: BuiltVersion, rests: Rests, spine: Spine, request: TrainingRequest, context: Context, *, judge: Judge | None) -> Built:
    """Bring a training set up to its spine as it is now; nothing is done if that has no other rows. `request` is as it is defined now."""
    spine_rows.check(spine, request)
    path, name = layout.training_set_table(context.lake, request.name), request.name
    before = unmoved.then(of, rests).published
    _refuse_other_request(of, request)
    versions = build.rests_on(spine.of, spine.state, request, published=rests.published, context=context)
    now = manifest.basis(spine, request, rests.published, now=context.clock())
    asked = past.request(of, rests.service, rests.defined)
    held = manifest.basis(past.own(of, asked, rests.source, context), asked, before, now=past.built_at(of))
    same, first = build.known_by(now, versions, context), first_change(held.contents, now.contents)
    with context.registry.lease(subjects.training_set(name, lake=context.lake), now=context.clock(), patience=PATIENCE):
        if first is None:
            return build.known_again(request, same, context) or build.built(request, path, of.manifest, unchanged=True)
        if now.dated_by != of.manifest["hw_date"]:
            raise NotAsBefore(f"{name}: with so many rows its partitions would be of a {now.dated_by} each; {unmoved.anew(of)}")
        since = partition(first, by=now.dated_by)
        work = _Work(of, held, now, same, _from(since, now), first, since, _cut(of, now))
        written = _written(work, context, judge)
    return build.built(request, path, written, unchanged=False)


def first_change(held: Mapping[int, tuple[int, ...]], now: Mapping[int, tuple[int, ...]]) -> date | None:
    """The first date (of days since 1970) on which a spine has other rows than it had; None if there is none."""
    other = [day for day in held.keys() | now.keys() if held.get(day) != now.get(day)]
    return _EPOCH + timedelta(days=min(other)) if other else None


def partition(day: date, *, by: str) -> date:
    """The partition that a date lies in."""
    return day if by == "day" else day.replace(day=1)


def _refuse_other_request(of: BuiltVersion, request: TrainingRequest) -> None:
    """Refuse a training set that is defined otherwise now."""
    said: Said = of.manifest
    label, split = request.label, request.split
    now = {
        "mode": request.mode,
        "label": None if label is None else {"column": label.column, "horizon": label.horizon},
        "split": None if split is None else (split.by, split.seed, [*split.shares.items()]),
        "statuses": request.statuses,
    }
    parted = said["split"]
    then = {
        "mode": said["mode"],
        "label": said["label"],
        "split": None if parted is None else (parted["by"], parted["seed"], [(part["name"], part["share"]) for part in parted["parts"]]),
        "statuses": any(name.endswith(layout.status_column("")) for name in said["columns"]),
    }
    other = [what for what, value in now.items() if value != then[what]]
    if other:
        raise NotAsBefore(f"{request.name} is defined with another {' and '.join(other)} than it was built with; {unmoved.anew(of)}")


def _cut(of: BuiltVersion, now: Basis) -> Cut | None:
    """How all rows are cut now; refused where those that are there would come in other parts."""
    split = now.request.split
    if split is None:
        return None
    cut = parts.cut(now.spine.rows, split, at=now.spine.at, label=now.request.label, days=now.days)
    said: Said = of.manifest
    bounds = [{name: part[name] for name in part if name != "rows"} for part in said["split"]["parts"]]
    if split.by == "label" or cut.described != bounds:
        raise NotAsBefore(
            f"{now.request.name}: a split by {split.by} cuts elsewhere once rows came, so that rows would change their parts; "
            f"{unmoved.anew(of)}, or split by entity or random"
        )
    return cut


# ---------------------------------------------------------------------------------------------------------------------- what is done


class _Work(NamedTuple):
    """A training set as it is and as it will be, and by what it will be known again: the first date with other rows, the part that is
    joined, which begins with the partition of that date (`since`), and how all is cut.
    """

    of: BuiltVersion
    held: Basis
    now: Basis
    same: Manifest
    part: Basis
    first: date
    since: date
    cut: Cut | None


def _from(day: date, of: Basis) -> Basis:
    """The part of a spine from a date on, its rows in the places that they have in the whole, and found as there: its `first` stays."""
    first = _days(day)
    days = {day: rows for day, rows in of.days.items() if day >= first}
    later = of.spine.rows.where(order.day(of.spine.at) >= F.lit(first))
    placed = order.by_columns(later, of.spine.ids, at=of.spine.at, days=of.days)
    return replace(
        of,
        spine=replace(of.spine, rows=placed),
        summary={**of.summary, "rows": sum(days.values())},
        days=days,
        first_place=sum(rows for day, rows in of.days.items() if day < first),
        dated=of.dated_by,
    )


def _days(until: date) -> int:
    return (until - _EPOCH).days


def _written(work: _Work, context: Context, judge: Judge | None) -> Manifest:
    """Join the part, judge the whole, commit the part, and describe the whole."""
    now, request, build_id = work.now, work.now.request, context.mint("p")
    versions = provenance.of_groups(now.published.values())
    asked = build.asked_of_rows(work.part, layout.training_set_table(context.lake, request.name), build_id)._replace(since=work.since)
    with kept_rows.kept(_joined(work, context), asked, context) as kept:
        stay = past.rows_of(work.of, context).where(F.col(layout.ROW_DATE) < F.lit(work.since))
        rows = stay.select(*[f"`{name}`" for name in asked.columns]).unionByName(kept.rows)
        found = gate.judged(rows, request, at=now.spine.at, judge=judge)
        described = _described(work, kept, rows, context) | {"expectations": [*found.found]}
        described |= build.provenance_of(now, context, before=versions)
        described |= {**work.same, "built_at": iso(context.clock())}
        rejected = build.committed(described, found, kept, context, build_id=build_id)
    return rejected or build.completed(described, context, build_id=build_id)


def _joined(work: _Work, context: Context) -> workers.Flow:
    """The part with all its columns. Rows of dates before the first one that is other are found as they were, and not counted again."""
    rows, look = build.finished(work.part, work.cut, context), manifest.look(work.part)
    marks = [name for name in look.counted if name != parts.PART]
    return finish.unmarked_before(work.first, rows, marks, at=work.now.spine.at)


def _replaced(work: _Work, context: Context) -> Manifest | None:
    """What the manifest counted of the rows that are no more what they were, which are joined once more so; None if there are none."""
    if not any(day >= _days(work.first) for day in work.held.days):
        return None
    held = replace(work.held, request=replace(work.held.request, split=None), dated=work.now.dated_by)
    part = _from(work.first, held)
    look = manifest.look(part)._replace(sampled=())
    counted = statistics.of_flow(build.finished(part, None, context), look)
    return manifest.described(part, counted, None, types={})


def _described(work: _Work, kept: kept_rows.Kept, rows: DataFrame, context: Context) -> Manifest:
    """What the whole holds: its values are looked at once more, how they were found is added up."""
    types = {field.name: tables.type_named(field.dataType) for field in rows.schema}
    look, cut = manifest.look(work.now), [] if work.cut is None else [parts.PART]
    seen = rows.withColumn(order.NUMBER, F.col(layout.ROW_NUMBER))
    whole = statistics.of_rows(seen, look._replace(counted=tuple(cut), sampled=(), checked=tuple(rows.columns)))
    counts: dict[str, Mapping[str, int]] = {name: {} for name in look.counted}
    every = Statistics(whole.rows, whole.places, whole.columns, counts | dict(whole.counts), None)
    found = manifest.described(work.now, every, work.cut, types=types)
    added = manifest.described(work.part, kept.found, work.cut, types=types)
    found |= added_up(work.of.manifest, _replaced(work, context), added, features=found["statistics"])
    since = {"since": work.since.isoformat(), "rows": work.part.summary["rows"], "to": training_sets.number(work.of)}
    kept_on = {name: work.of.manifest[name] for name in ("added",) if name in work.of.manifest}
    return found | kept_on | {"leaks": build.leaks(work.part, rows, kept.found, context), "appended": since}


def added_up(held: Said, replaced: Said | None, added: Said, *, features: Any) -> Manifest:
    """How the values of all rows were found: what there was, without what was replaced, and what came."""
    signs = [(held, 1), *([] if replaced is None else [(replaced, -1)]), (added, 1)]
    found: Manifest = {
        what: {name: sum(sign * each[what][name] for each, sign in signs) for name in added[what]}
        for what in ("values_on_modelled_times", "failed")
    }
    joins: dict[str, object] = {}
    for name, join in added["statistics"]["joins"].items():
        rows = {status: sum(sign * each["statistics"]["joins"][name]["rows"][status] for each, sign in signs) for status in join["rows"]}
        modelled = cast("dict[str, int]", found["values_on_modelled_times"])[name]
        joins[name] = statistics.of_statuses(rows, modelled=modelled)
    return found | {"statistics": {**features, "joins": joins}}
