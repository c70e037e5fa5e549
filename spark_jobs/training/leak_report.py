"""The leak report of a training set: what of the future its rows could have seen, what they did not see, and what cannot be told.

A sample of its rows is compared with what `recomputed` gives; the rest is decided from the definitions.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from feature_definitions import on_demand
from feature_definitions.intervals import MICROSECOND, duration
from feature_definitions.language import FeatureService, Join, Label, OnDemandFeature, Query, Source
from feature_definitions.planning.upstream import sources_of
from feature_definitions.reading import default
from feature_definitions.sql import lineage, lookahead
from lake.arrow_types import arrow_type
from spark_jobs.training.computed import shown
from spark_jobs.training.recomputed import Recomputed
from spark_jobs.training.spine import TrainingRequest
from spark_jobs.training.statistics import SEED

_WORST = 3
"""How many of the features that a join without time would have changed most are named in sentences."""
_ONE_IN = (100, 1000)
"""If one row in so many were wrong: with which chance the sample holds one of these."""

Report = dict[str, Any]


class Reported(NamedTuple):
    """What is reported on: what was asked, the spine's source, if it is one, its column of times, and how many rows there are.

    `overlap` is the share of the sample with a label's time that a row of another part lies in; None where no rows can be so. `ahead` is
    the time of the last row, if that had not come yet.
    """

    request: TrainingRequest
    source: Source | None
    at: str
    rows: int
    overlap: float | None = None
    ahead: str | None = None


def report(sample: pa.Table | None, again: Mapping[str, Sequence[Recomputed]], of: Reported) -> Report:
    """The leak report; `again` is the sample computed anew, by join."""
    rows, service = 0 if sample is None else sample.num_rows, of.request.service
    compared = _compared(sample, again, service)
    found: Report = {
        "sample": {"rows": rows, "seed": SEED, "finds_one_in": {str(each): chance(rows, of.rows, one_in=each) for each in _ONE_IN}},
        "shift": {"rows": rows, "moved": _moved(compared), "features": {name: each.moved for name, each in compared.items() if each.moved}},
        "naive": {name: {"changed": each.share, "mean_difference": each.difference} for name, each in compared.items()},
        "known_later": _known_later(sample, again, of),
        "label_readers": [] if of.request.label is None else _label_readers(service, of.request.label, of.source),
        "label_overlap": of.overlap,
        "static_sources": static_sources(service),
        "looks_ahead": looks_ahead(service),
        "from_the_spine": sorted(service.requests),
    }
    return found | {"sentences": sentences(found, of)}


def chance(sampled: int, rows: int, *, one_in: int) -> float | None:
    """With which chance a sample holds one of the wrong rows, if one in so many is wrong; None where there are not so many rows."""
    wrong = rows // one_in
    if not wrong or not sampled:
        return None
    missed = math.prod(max(0, rows - wrong - drawn) / (rows - drawn) for drawn in range(sampled))
    return 1 - missed


# ------------------------------------------------------------------------------------------------------------------- the sample


class Compared(NamedTuple):
    """One feature in the sample: the rows that moved, those that a join without time changes, and by how much."""

    rows: int
    moved: int
    where: frozenset[int]
    changed: int
    differences: tuple[float, ...]

    @property
    def share(self) -> float | None:
        """The share of the rows that a join without time changes."""
        return self.changed / self.rows if self.rows else None

    @property
    def difference(self) -> float | None:
        """How much greater the newest values are on average, where both are numbers."""
        found = math.fsum(self.differences) / len(self.differences) if self.differences else math.nan
        return found if math.isfinite(found) else None


class _Sides(NamedTuple):
    """What one feature must be in each row of the sample, and what it would be without time."""

    expected: list[Any]
    naive: list[Any]


def _compared(sample: pa.Table | None, again: Mapping[str, Sequence[Recomputed]], service: FeatureService) -> dict[str, Compared]:
    """Each feature in the sample: those of joins, and those that are computed on demand of these, by their own functions."""
    if sample is None:
        return dict.fromkeys(service.outputs, compared([], [], []))
    sides, types = _joined(again, service), shown(service)
    for feature in service.on_demand:
        inputs = feature.typed_inputs(types)
        both = ([_input(name, kind, side, sample) for name, kind in inputs] for side in _turned(sides))
        sides[feature.name] = _Sides(*[_computed(feature, given, count=sample.num_rows) for given in both])
    return {name: compared(sample.column(name).to_pylist(), *each) for name, each in sides.items()}


def _joined(again: Mapping[str, Sequence[Recomputed]], service: FeatureService) -> dict[str, _Sides]:
    types, found = shown(service), {}
    stands = {name: default(value, types[name]) for name, value in service.defaults.items()}
    for join in service.joins:
        each = again.get(join.name, ())
        for name in join.outputs:
            expected = [_with_default(one.expected[name], stands.get(name)) for one in each]
            found[name] = _Sides(expected, [_with_default(one.naive[name], stands.get(name)) for one in each])
    return found


def _turned(sides: Mapping[str, _Sides]) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """What all features must be, and what they would be without time."""
    return {name: each.expected for name, each in sides.items()}, {name: each.naive for name, each in sides.items()}


def _input(name: str, kind: str, features: Mapping[str, list[Any]], sample: pa.Table) -> on_demand.Values:
    """An input of a function: a feature, or a field that comes from the spine."""
    given = features[name] if name in features else sample.column(name).cast(arrow_type(kind)).to_pylist()
    return on_demand.of_python(given, kind)


def _computed(feature: OnDemandFeature, inputs: Sequence[on_demand.Values], *, count: int) -> list[Any]:
    return on_demand.to_python(on_demand.compute(feature, inputs, count=count), feature.type)


def compared(held: Sequence[Any], expected: Sequence[Any], naive: Sequence[Any]) -> Compared:
    """One feature's values in the training set, computed anew, and without time."""
    moved = frozenset(place for place, (here, there) in enumerate(zip(held, expected, strict=True)) if not _same(here, there))
    changed = sum(not _same(here, there) for here, there in zip(expected, naive, strict=True))
    numbers = [(float(here), float(there)) for here, there in zip(expected, naive, strict=True) if _is_number(here) and _is_number(there)]
    return Compared(len(held), len(moved), moved, changed, tuple(there - here for here, there in numbers))


def _with_default(value: Any, stands: Any) -> Any:
    given = stands if value is None else value
    return list(given) if isinstance(given, tuple) else given


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one; NaN is itself."""
    return bool(one == other) or (isinstance(one, float | list) and repr(one) == repr(other))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and math.isfinite(value)


def _moved(compared: Mapping[str, Compared]) -> int:
    return len(frozenset[int]().union(*(each.where for each in compared.values())))


def _known_later(sample: pa.Table | None, again: Mapping[str, Sequence[Recomputed]], of: Reported) -> Report:
    """By join and feature on demand the shares of values that were known only after their row's time, and only when its label was."""
    times = [] if sample is None else sample.column(of.at).cast(pa.int64()).to_pylist()
    horizon = None if of.request.label is None else duration(of.request.label.horizon) // MICROSECOND
    known = {name: [one.known for one in each] for name, each in again.items()}
    for feature in of.request.service.on_demand:
        inputs = [known[join.name] for join in _read_by(feature, of.request.service) if join.name in known]
        if inputs:
            known[feature.name] = [max((at for at in row if at is not None), default=None) for row in zip(*inputs, strict=True)]
    return {name: _late(each, times, horizon) for name, each in known.items()}


def _late(known: Sequence[int | None], times: Sequence[int], horizon: int | None) -> Report:
    late = [at - time for at, time in zip(known, times, strict=True) if at is not None]
    after_label = None if horizon is None or not late else sum(by > horizon for by in late) / len(late)
    return {"values": len(late), "after": sum(by > 0 for by in late) / len(late) if late else None, "after_label": after_label}


# --------------------------------------------------------------------------------------------------------------- the definitions


def static_sources(service: FeatureService) -> dict[str, list[str]]:
    """The sources whose rows have no time, with the joins and the features on demand that rest on them: since when it holds, who knows."""
    found: dict[str, list[str]] = {}
    for join, source in _behind(service):
        if source.shape == "static":
            found.setdefault(source.name, []).append(join.name)
    return {name: [*joins, *_computed_of(joins, service)] for name, joins in found.items()}


def looks_ahead(service: FeatureService) -> dict[str, Report]:
    """The queries whose rows may hold what came after their time, each with the reasons and what rests on it."""
    found: dict[str, Report] = {}
    for join, source in _behind(service):
        why = lookahead.looks_ahead(source.at) if isinstance(source.at, Query) and source.shape != "static" else ()
        if why:
            found.setdefault(source.name, {"because": [*why], "features": []})["features"].append(join.name)
    return {name: each | {"features": [*each["features"], *_computed_of(each["features"], service)]} for name, each in found.items()}


def _behind(service: FeatureService) -> Iterator[tuple[Join, Source]]:
    """Each join with each source behind it, those of queries too."""
    for join in service.joins:
        yield from ((join, source) for source in _with_queried(sources_of(join.group)).values())


def _with_queried(sources: Iterable[Source]) -> dict[str, Source]:
    """Sources, and those that they query, each once."""
    found: dict[str, Source] = {}
    for source in sources:
        found |= {source.name: source} | (_with_queried(source.at.sources) if isinstance(source.at, Query) else {})
    return found


def _read_by(feature: OnDemandFeature, service: FeatureService) -> list[Join]:
    """The joins of which a feature on demand reads values."""
    return [join for join in service.joins if not set(feature.refs).isdisjoint(join.outputs)]


def _computed_of(joins: Collection[str], service: FeatureService) -> list[str]:
    """The features on demand that read values of some joins."""
    return [feature.name for feature in service.on_demand if any(join.name in joins for join in _read_by(feature, service))]


def _label_readers(service: FeatureService, label: Label, source: Source | None) -> list[str]:
    """What reads the label's own column, or what that is derived from, on the way to a feature, however late it does."""
    if source is None:
        return []
    told, found, outputs = lineage.rooted(source, frozenset({label.column})), list[str](), set[str]()
    for join in service.joins:
        for column, output in zip(join.columns, join.outputs, strict=True):
            who = [each for each, read in lineage.reads(join.group, frozenset({column}), source.name) if told & read]
            found += who
            outputs |= {output} if who else set()
    for feature in service.on_demand:
        fields = (name for name in feature.requests if lineage.rooted(source, frozenset({name})) & told)
        found += [f"{feature.name} (of {name})" for name in (*(ref for ref in feature.refs if ref in outputs), *fields)]
    return sorted({*found})


# -------------------------------------------------------------------------------------------------------------------- sentences


def sentences(found: Report, of: Reported) -> list[str]:
    """What a person should know, the worst first; what the join kept out comes last."""
    ahead = [f"rows ask at times that had not come yet, up to {of.ahead}: a later build may give them other values"] if of.ahead else []
    said = [*_of_shift(found), *_of_later(found, of.request), *_of_label(found, of)]
    return [*said, *ahead, *_of_definitions(found), *_of_naive(found)]


def _of_shift(found: Report) -> list[str]:
    shift = found["shift"]
    if not shift["moved"]:
        return []
    worst = sorted(shift["features"].items(), key=lambda item: (-item[1], item[0]))[:_WORST]
    named = ", ".join(f"{name} in {count}" for name, count in worst)
    rows = f"{shift['moved']} of {shift['rows']} sampled rows have other values when what came after their time is hidden"
    return [f"LEAK: {rows} ({named}); do not train on this set, and report a defect"]


def _of_later(found: Report, request: TrainingRequest) -> list[str]:
    said = []
    for name, each in found["known_later"].items():
        if each["after"]:
            label = f", {_percent(each['after_label'])} only after the label" if each["after_label"] else ""
            hint = "; mode as_known sees none of them" if request.mode == "event_time" else ""
            said.append(f"{_percent(each['after'])} of the values of {name} were known only after their row's time{label}{hint}")
    return said


def _of_label(found: Report, of: Reported) -> list[str]:
    said = [f"{who} reads the label's own column, which is known only when the label is" for who in found["label_readers"]]
    if found["label_overlap"]:
        horizon = "" if of.request.label is None else of.request.label.horizon
        said.append(
            f"for {_percent(found['label_overlap'])} of the rows another part has a row of the same keys within the label's {horizon}: "
            "what is tested was partly taught; split by time or by entity"
        )
    return said


def _of_definitions(found: Report) -> list[str]:
    said = [
        f"{_rest(each['features'])} on the query {name}, which {' and '.join(each['because'])}: rows may hold what came after their time"
        for name, each in found["looks_ahead"].items()
    ]
    said += [
        f"{_rest(features)} on {name}, which is static: it is read as if it had always been so"
        for name, features in found["static_sources"].items()
    ]
    if found["from_the_spine"]:
        said.append(f"{', '.join(found['from_the_spine'])} come from the spine; whether they were known at its times cannot be told")
    return said


def _rest(features: Sequence[str]) -> str:
    return f"{', '.join(features)} {'rests' if len(features) == 1 else 'rest'}"


def _of_naive(found: Report) -> list[str]:
    changed = [(name, each) for name, each in found["naive"].items() if each["changed"]]
    worst = sorted(changed, key=lambda item: (-item[1]["changed"], item[0]))[:_WORST]
    return [
        f"a join of the newest values would have changed {name} in {_percent(each['changed'])} of the rows"
        + ("" if each["mean_difference"] is None else f", by {each['mean_difference']:+.4g} on average")
        for name, each in worst
    ]


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.01 else f"{share:.0%}".replace("%", " %")
