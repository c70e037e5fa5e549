"""The page of one build of a training set: its manifest in, one HTML page out, which opens without anything else."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from expectations import charts
from expectations.charts import number
from expectations.report import counted, template

Manifest = Mapping[str, Any]

STATUSES = ("PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND", "HELD")
"""How rows may be found, in the order in which a bar shows them."""
_SHOWN = ("min", "50", "max", "mean", "sd")


class _Feature(NamedTuple):
    """A row of the table of features: texts and charts."""

    name: str
    type: str
    nulls: str
    missing: str
    plot: str
    values: Sequence[str]
    distinct: str
    naive: str


class _Join(NamedTuple):
    """A row of the table of joins."""

    name: str
    bar: str
    shares: Sequence[str]
    modelled: str


class _Part(NamedTuple):
    """A row of the table of a split's parts."""

    name: str
    rows: str
    share: str
    span: str


def page(manifest: Manifest) -> str:
    """The page: what leaks, how rows were found, what the features hold, the parts, the checks, and what it rests on."""
    leaks, features = manifest["leaks"], manifest["statistics"]["features"]
    tiles = {"rows": manifest["rows"], "columns": len(manifest["columns"]), "features": len(features), "groups": len(manifest["groups"])}
    return template("dataset.html").render(
        manifest=manifest,
        tiles=tiles.items(),
        tone=_tone(manifest),
        head=_head(manifest),
        sample=leaks["shift"],
        sentences=leaks["sentences"],
        statuses=STATUSES,
        joins=list(_joins(manifest)),
        shown=("min", "median", "max", "mean", "sd"),
        features=[_feature(name, held, leaks["naive"].get(name, {}), manifest["rows"]) for name, held in features.items()],
        parts=list(_parts(manifest)),
        parts_bar=_parts_bar(manifest),
        checks=[_check(each) for each in manifest["expectations"]],
        inputs=[(each["table"], each["version"], each["version_after"]) for each in manifest["inputs"]],
    )


def _tone(manifest: Manifest) -> str:
    """The colour of the head: of what was rejected, of what leaks, of what a warning says, or of none of these."""
    if manifest.get("rejected") or manifest["leaks"]["shift"]["moved"]:
        return "rejected"
    return "ok" if all(each["passed"] for each in manifest["expectations"]) else "warned"


def _head(manifest: Manifest) -> str:
    """Which version it is, or why readers do not get it."""
    rejected = manifest.get("rejected")
    return f"kept from readers by {', '.join(rejected)}" if rejected else f"version {manifest['delta_version']}"


def _joins(manifest: Manifest) -> Iterator[_Join]:
    for name, found in manifest["statistics"]["joins"].items():
        held = [(status, found["shares"][status] or 0.0) for status in STATUSES]
        shares = [_percent(found["shares"][status]) for status in STATUSES]
        yield _Join(name, charts.shares(held) if manifest["rows"] else "", shares, _percent(found["on_modelled_times"]))


def _feature(name: str, held: Mapping[str, Any], naive: Mapping[str, Any], rows: int) -> _Feature:
    share = held["nulls"] / rows if rows else None
    values = {"min": held["min"], "max": held["max"], "mean": held["mean"], "sd": held["sd"]} | held["quantiles"]
    known = [(values["min"], 0.0), *((values[percent], int(percent) / 100) for percent in held["quantiles"]), (values["max"], 1.0)]
    plotted = [(float(value), share) for value, share in known if isinstance(value, int | float)]
    return _Feature(
        name=name,
        type=held["type"] if held["of"] == "values" else f"{held['type']}, lengths",
        nulls=_percent(share),
        missing=charts.shares([("missing", share or 0.0), ("there", 1 - (share or 0.0))], width=60) if rows else "",
        plot=charts.density(plotted),
        values=[_short(values[what]) for what in _SHOWN],
        distinct=number(held["distinct"]),
        naive=_percent(naive.get("changed")),
    )


def _short(value: object) -> str:
    return number(float(value)) if isinstance(value, int | float) else "–" if value is None else str(value)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _parts(manifest: Manifest) -> Iterator[_Part]:
    split = manifest["split"]
    for part in split["parts"] if split else ():
        bounds = [(word, part.get(word)) for word in ("from", "to")]
        span = " ".join(f"{word} {at}" for word, at in bounds if at is not None)
        yield _Part(part["name"], number(part["rows"]), _percent(part["rows"] / manifest["rows"] if manifest["rows"] else None), span)
    if split and split["in_no_part"]:
        yield _Part("in no part", number(split["in_no_part"]), _percent(split["in_no_part"] / manifest["rows"]), "")


def _parts_bar(manifest: Manifest) -> str:
    split = manifest["split"]
    if not split or not manifest["rows"]:
        return ""
    return charts.shares([(part["name"], part["rows"] / manifest["rows"]) for part in split["parts"]], width=480)


def _check(each: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """A check: how grave it is, what it is, whether it held, and what was found."""
    found = counted(int(each["bad_rows"]), "bad row") if "bad_rows" in each else f"{each['value']}"
    return each["severity"], each["check"], "held" if each["passed"] else "did not hold", found
