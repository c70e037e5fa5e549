"""What a training set was built from, found again by its manifest: the request, the publishes of its groups then, and the spine's rows.

Corrections replace rows in a group's table and leave them in its history, so a group is read as it was without time travel: publishes that
came later are passed over. A source has no such history: its table is read in the version that the manifest names, if that is still there.
"""

from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, cast

from pyspark.sql import DataFrame

from feature_definitions import layout
from feature_definitions.errors import Unknown
from feature_definitions.intervals import parse_instant
from feature_definitions.language import DefinitionError, FeatureGroup, FeatureService, Join, Label, Mode, Source, Split, TrainingSet
from feature_definitions.loader import Catalog
from feature_definitions.planning import fingerprint
from feature_definitions.planning.upstream import read_by
from feature_definitions.records import Committed
from lake import delta, delta_files, storage, versions
from lake.readable import Published
from lake.training_sets import BuiltVersion
from spark_jobs.context import Context
from spark_jobs.ingest import events
from spark_jobs.training import manifest, order, provenance
from spark_jobs.training.spine import Spine, TrainingRequest

Said = Mapping[str, Any]
"""A manifest, or a part of it."""


def built_at(of: BuiltVersion) -> datetime:
    """When a version was built."""
    return parse_instant(str(of.manifest["built_at"]))


def request(of: BuiltVersion, service: FeatureService, defined: TrainingSet | None) -> TrainingRequest:
    """What was asked for, as the manifest says it."""
    said: Said = of.manifest
    label = None if said["label"] is None else Label(said["label"]["column"], said["label"]["horizon"], immature="leave out")
    statuses = any(name.endswith(layout.status_column("")) for name in said["columns"])
    mode = cast(Mode, said["mode"])
    return TrainingRequest(str(said["name"]), service, mode, label, _split(said["split"], defined), statuses)


def _split(said: Said | None, defined: TrainingSet | None) -> Split | None:
    """How it was cut; where that is how it is defined now, exactly so."""
    if said is None:
        return None
    found = Split(said["by"], {part["name"]: part["share"] for part in said["parts"]}, said["seed"])
    now = None if defined is None else defined.cut
    same = now is not None and (now.by, now.seed, [*now.shares]) == (found.by, found.seed, [*found.shares])
    close = now is not None and same and all(abs(now.shares[name] - share) < 1e-9 for name, share in found.shares.items())
    return now if close else found


# --------------------------------------------------------------------------------------------------------------------- definitions


def changed(of: BuiltVersion, service: FeatureService, published: Mapping[str, Published]) -> Iterator[str]:
    """What is defined otherwise now than when a version was built, so that it cannot be built again."""
    said: Said = of.manifest
    then, now = said["definitions"], provenance.definitions(service)
    groups = cast("dict[str, dict[str, str]]", now["groups"])
    yield from (f"service {service.name} does not join {group} any more" for group in then["groups"] if group not in groups)
    both = {group: columns for group, columns in then["groups"].items() if group in groups}
    for group, columns in both.items():
        yield from (f"{group}.{column} is defined otherwise" for column, held in columns.items() if groups[group].get(column) != held)
    demanded = cast("dict[str, str]", now["on_demand"])
    yield from (f"{name} is computed otherwise" for name, held in then["on_demand"].items() if demanded.get(name) != held)
    if then["service"] != now["service"]:
        yield f"service {service.name} asks for other features, defaults or keys"
    for name in both:
        held, group_now = said["seen"][name], published[name].group
        for setting, value in (("ttl", group_now.ttl), ("publish_delay", group_now.publish_delay)):
            if held[setting] != value:
                yield f"{name} has {setting} {value!r}, and had {held[setting]!r}"


def service(of: BuiltVersion, catalog: Catalog) -> FeatureService:
    """The service that a version was built with, as the catalog has it; or, if it is gone or another one there, as the manifest tells it.

    Raises Unknown where something is gone without which it cannot be told.
    """
    said: Said = of.manifest
    then = _as_told(of, catalog)
    if then is not None and fingerprint.service(then) == said["definitions"]["service"]:
        return then
    if said["service"] not in catalog.services:
        raise Unknown(f"service {said['service']} is not defined any more, nor is all that it joined and computed as it was")
    return with_added(catalog.services[said["service"]], of, catalog.tables)


def with_added(service: FeatureService, of: BuiltVersion, groups: Mapping[str, FeatureGroup]) -> FeatureService:
    """A service with the joins that were added to a training set after it was built; raises Unknown for a group that is gone."""
    said: Said = of.manifest
    for each in said.get("added", ()):
        if each["group"] not in groups:
            raise Unknown(f"group {each['group']}, whose features were added to {said['name']}, is not defined any more")
        service = joined(service, _join(each, groups))
    return service


def _as_told(of: BuiltVersion, catalog: Catalog) -> FeatureService | None:
    """The service as the manifest tells it; None if that is older than those which do, or tells of what the catalog has no more."""
    said: Said = of.manifest
    told, groups = said["definitions"], catalog.tables
    try:
        joins = tuple(_join(each, groups) for each in told["joins"])
        on_demand = tuple(catalog.on_demand[name] for name in told["on_demand"])
        defaults = {name: literal_eval(text) for name, text in told["defaults"].items()}
        return FeatureService(said["service"], said["version"], joins, on_demand, online=False, defaults=defaults)
    except (KeyError, ValueError, SyntaxError, DefinitionError):
        return None


def _join(told: Said, groups: Mapping[str, FeatureGroup]) -> Join:
    return Join(groups[told["group"]], tuple(told["features"]), told["prefix"], told["on"])


def joined(service: FeatureService, more: Join) -> FeatureService:
    """A service that joins more: another group, or other features of one that it joins under that name."""
    held = {join.name: join for join in service.joins}
    if more.name in held:
        more = replace(held[more.name], features=(*held[more.name].columns, *more.columns))
    return replace(service, joins=tuple((held | {more.name: more}).values()), online=False)


# ------------------------------------------------------------------------------------------------------------------------ publishes


def publishes(published: Published, said: Said, committed: Callable[[], Sequence[Committed]], *, by: datetime) -> Published | None:
    """A group as it was when there were the publishes that a manifest tells of; None if it cannot be told which these were.

    They are those up to the newest one, by their ids. Where one of these was committed only later, as after an approval, `committed` says
    when each was.
    """
    newest = str(said["newest"] or "")
    upto = replace(published, publishes=tuple(each for each in published.publishes if each.publish_id <= newest), past=True)
    if _is(upto, said):
        return upto
    times = {each.publish_id: each.committed_at for each in committed() if each.group == published.group.name}
    there = tuple(each for each in upto.publishes if each.publish_id not in times or times[each.publish_id] <= by)
    found = replace(upto, publishes=there)
    return found if _is(found, said) else None


def _is(found: Published, said: Said) -> bool:
    return bool(manifest.seen(found)["digest"] == said["digest"])


def online(published: Published, *, by: datetime) -> Published:
    """A group with the syncs that had finished by a time."""
    return replace(published, epochs=tuple(each for each in published.epochs if (each.ended_at or each.synced_at) <= by))


# --------------------------------------------------------------------------------------------------------------------------- spine


class FoundSpine(NamedTuple):
    """The spine's rows again: from its source, or as they lie in the training set itself, or none; and why not from the source."""

    spine: Spine | None
    origin: str | None
    gone: tuple[str, ...] = ()


def spines(of: BuiltVersion, asked: TrainingRequest, source: Source | None, context: Context, *, there: bool) -> Iterator[FoundSpine]:
    """The spine, by each way there is: first from its source as that was, then from its own columns, if these are `there`."""
    said: Said = of.manifest
    gone: tuple[str, ...] = ()
    if said["spine"]["source"] is not None and source is not None:
        gone = tuple(unreadable(of, source, context.lake))
        if not gone:
            yield FoundSpine(_of_source(of, source, context), "source")
    elif said["spine"]["source"] is not None:
        gone = (f"source {said['spine']['source']} is not defined any more",)
    if there:
        yield FoundSpine(own(of, asked, source, context), "training set", gone)
    else:
        yield FoundSpine(None, None, gone)


def unreadable(of: BuiltVersion, source: Source, lake: str) -> Iterator[str]:
    """Which tables of a spine's source cannot be read any more as they were."""
    known, now = _tables(of, source, lake), versions.tables(source, lake)
    if not now:
        yield f"source {source.name} has no table any more"
    for path in now:
        if path not in known:
            yield f"the manifest names no version of {path}"
    for path, version in known.items():
        if version is None:
            yield f"{path} has no versions: what it held then cannot be read"
        elif not delta.exists(path) or not delta_files.readable(path, version):
            yield f"version {version} of {path} was deleted, by VACUUM or with its log"


def _tables(of: BuiltVersion, source: Source, lake: str) -> dict[str, int | None]:
    """The tables that the spine was read from, as the manifest names them, with their versions then."""
    said: Said = of.manifest
    known = {storage.joined(lake, each["table"]): each["version"] for each in said["inputs"]}
    return {path: known[path] for path in versions.tables(source, lake) if path in known}


def _of_source(of: BuiltVersion, source: Source, context: Context) -> Spine:
    then = _tables(of, source, context.lake)
    rows = events.read_as_it_was(source, context, versions.state_of(source, context.lake, then)).select(
        *[f"`{name}`" for name in source.names]
    )
    return Spine(rows, str(source.event_timestamp), source.name, source.id, read_by(source), (*then.items(),), source)


def own(of: BuiltVersion, asked: TrainingRequest, source: Source | None, context: Context) -> Spine:
    """The spine's columns as they lie in the training set, in the spine's order; those of a source are put in theirs anew."""
    said: Said = of.manifest
    rows = rows_of(of, context)
    own = {name for name in rows.columns if layout.is_of_training_sets(name)}
    names = [name for name in said["columns"] if name not in own and name not in asked.service.outputs]
    columns = rows.select(*[f"`{name}`" for name in names], *([] if said["spine"]["source"] else [_place(rows)]))
    ids, reads = (source.id, read_by(source)) if source is not None else ((), frozenset(said["revisions"]))
    return Spine(columns, str(said["spine"]["event_timestamp"]), said["spine"]["source"], ids, reads, (), source)


def _place(rows: DataFrame) -> Any:
    return rows[layout.ROW_NUMBER].alias(order.NUMBER)


def rows_of(of: BuiltVersion, context: Context) -> DataFrame:
    """The rows of a version, as Spark reads them."""
    path = layout.training_set_table(context.lake, str(of.manifest["name"]))
    return context.spark.read.format("delta").option("versionAsOf", of.version).load(path)
