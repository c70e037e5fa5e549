"""The leak report of a training set: what of the future its rows could have seen, what they did not see, and what cannot be told.

A sample of its rows is compared with what `recomputed` gives; the rest is decided from the definitions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from feature_definitions.intervals import MICROSECOND, duration
from feature_definitions.language import FeatureService, Label, Query, Source
from feature_definitions.planning.upstream import sources_of
from feature_definitions.reading import default
from feature_definitions.sql import lineage
from spark_jobs.training.computed import shown
from spark_jobs.training.recomputed import Recomputed
from spark_jobs.training.spine import TrainingRequest
from spark_jobs.training.statistics import SEED

_WORST = 3
"""How many of the features that a join without time would have changed most are named in sentences."""

Report = dict[str, Any]


def report(
    sample: pa.Table | None, again: Mapping[str, Sequence[Recomputed]], *, request: TrainingRequest, source: str | None, at: str
) -> Report:
    """The leak report; `again` is the sample computed anew, by join, and `source` the spine's."""
    rows = 0 if sample is None else sample.num_rows
    compared = _compared(sample, again, request.service)
    found: Report = {
        "sample": {"rows": rows, "seed": SEED},
        "shift": {"rows": rows, "moved": _moved(compared), "features": {name: each.moved for name, each in compared.items() if each.moved}},
        "naive": {name: {"changed": each.share, "mean_difference": each.difference} for name, each in compared.items()},
        "known_later": _known_later(sample, again, at=at, label=request.label),
        "label_readers": [] if request.label is None else _label_readers(request.service, request.label, source),
        "static_sources": static_sources(request.service),
        "from_the_spine": sorted(request.service.requests),
    }
    return found | {"sentences": sentences(found, request)}


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


def _compared(sample: pa.Table | None, again: Mapping[str, Sequence[Recomputed]], service: FeatureService) -> dict[str, Compared]:
    types = shown(service)
    stands = {name: default(value, types[name]) for name, value in service.defaults.items()}
    found = {}
    for join in service.joins:
        for name in join.outputs:
            held = [] if sample is None else sample.column(name).to_pylist()
            each = again.get(join.name, ())
            expected = [_with_default(one.expected[name], stands.get(name)) for one in each]
            naive = [_with_default(one.naive[name], stands.get(name)) for one in each]
            found[name] = compared(held, expected, naive)
    return found


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


def _known_later(sample: pa.Table | None, again: Mapping[str, Sequence[Recomputed]], *, at: str, label: Label | None) -> Report:
    """By join the shares of values that were known only after their row's time, and only when its label was."""
    times = [] if sample is None else sample.column(at).cast(pa.int64()).to_pylist()
    horizon = None if label is None else duration(label.horizon) // MICROSECOND
    found = {}
    for name, each in again.items():
        late = [one.known - time for one, time in zip(each, times, strict=True) if one.known is not None]
        after_label = None if horizon is None or not late else sum(by > horizon for by in late) / len(late)
        found[name] = {"values": len(late), "after": sum(by > 0 for by in late) / len(late) if late else None, "after_label": after_label}
    return found


# --------------------------------------------------------------------------------------------------------------- the definitions


def static_sources(service: FeatureService) -> dict[str, list[str]]:
    """The sources whose rows have no time, with the joins that rest on them: nobody knows since when these values hold."""
    found: dict[str, list[str]] = {}
    for join in service.joins:
        for source in sources_of(join.group):
            if source.shape == "static":
                found.setdefault(source.name, []).append(join.name)
    return found


def _label_readers(service: FeatureService, label: Label, source: str | None) -> list[str]:
    """What reads the label's own column, or what that is derived from, on the way to a feature, however late it does."""
    found = []
    for join in service.joins:
        for spine in _named(sources_of(join.group), source):
            told = lineage.rooted(spine, frozenset({label.column}))
            found += [who for who, read in lineage.reads(join.group, frozenset(join.columns), spine.name) if told & read]
    return sorted({*found})


def _named(sources: Iterable[Source], name: str | None) -> list[Source]:
    """The source of a name among these and those that they query."""
    found: list[Source] = []
    for source in sources:
        found += [source] if source.name == name else []
        found += _named(source.at.sources, name) if isinstance(source.at, Query) else []
    return found[:1]


# -------------------------------------------------------------------------------------------------------------------- sentences


def sentences(found: Report, request: TrainingRequest) -> list[str]:
    """What a person should know, the worst first; what the join kept out comes last."""
    return [*_of_shift(found), *_of_later(found, request), *_of_definitions(found), *_of_naive(found)]


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


def _of_definitions(found: Report) -> list[str]:
    said = [f"{who} reads the label's own column, which is known only when the label is" for who in found["label_readers"]]
    said += [
        f"{', '.join(joins)} {'rests' if len(joins) == 1 else 'rest'} on {name}, which is static: it is read as if it had always been so"
        for name, joins in found["static_sources"].items()
    ]
    if found["from_the_spine"]:
        said.append(f"{', '.join(found['from_the_spine'])} come from the spine; whether they were known at its times cannot be told")
    return said


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
