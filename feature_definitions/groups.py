# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Feature groups: one table each, filled on one schedule from one source."""

from dataclasses import dataclass
from datetime import timedelta

from feature_definitions.expect import Expectation, expectations
from feature_definitions.features import SHORTEST_WINDOW, Derived, Feature
from feature_definitions.intervals import DAY, duration
from feature_definitions.rules import (
    COLUMN,
    RESERVED,
    DefinitionError,
    NotYet,
    check_known,
    check_name,
    check_span,
    check_sql,
    check_unique,
    listed,
    refuse_not_yet,
    texts,
)
from feature_definitions.sources import Entity, Source


@dataclass(frozen=True, slots=True)
class WindowedGroup:
    """Features of an entity over windows of its events; one row per entity and grid time `T`, over exactly `[T - window, T)`."""

    name: str
    entity: Entity
    source: Source
    every: str = "1d"
    publish_delay: str = "0s"
    ttl: str | None = None
    features: tuple[Feature | Derived, ...] = ()
    restate_within: str = "3d"
    owner: str = ""
    tags: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()
    where: str | None = None
    hold_below: float = 0.0
    retain: str | None = None

    def __post_init__(self) -> None:
        """Check cadence, TTL, windows, columns and output names."""
        _check_group(self)
        object.__setattr__(self, "features", listed(self.features))
        for feature in self.features:
            if not isinstance(feature, Feature | Derived):
                raise DefinitionError(f"group {self.name} has the feature {feature!r}; write Feature(...) or Derived(...)")
        if not any(isinstance(f, Feature) for f in self.features):
            raise DefinitionError(
                f"group {self.name} has no features; write features=(Feature('spend', 'sum', 'amount', windows=('7d',)),)"
            )
        for feature in self.features:
            if isinstance(feature, Feature):
                _check_feature(self, feature)
        _check_outputs(self)

    @property
    def cadence(self) -> timedelta:
        """The distance of two grid times."""
        return duration(self.every)

    @property
    def longest(self) -> timedelta:
        """The longest window of any feature."""
        return max(duration(w) for f in self.features if isinstance(f, Feature) for w in f.windows)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns of the table, in order."""
        return tuple(column for feature in self.features for column in feature.columns)


@dataclass(frozen=True, slots=True)
class _ShownGroup:
    """What groups that show a source's columns as they are have in common."""

    name: str
    entity: Entity
    source: Source
    columns: tuple[str, ...] = ()
    ttl: str | None = None
    every: str = "1d"
    publish_delay: str = "0s"
    restate_within: str = "3d"
    owner: str = ""
    tags: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()
    where: str | None = None
    hold_below: float = 0.0
    retain: str | None = None

    @property
    def cadence(self) -> timedelta:
        """How much of the source one run covers, or how often a static one is looked at again."""
        return duration(self.every)

    @property
    def longest(self) -> timedelta:
        """There are no windows: the interval itself is all that a run reads."""
        return timedelta(0)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns of the table, in order."""
        return self.columns


@dataclass(frozen=True, slots=True)
class ObservationGroup(_ShownGroup):
    """A source's columns as they were observed: one row per entity and event, at the event's own time."""

    def __post_init__(self) -> None:
        """Check cadence, TTL, columns and output names."""
        _check_group(self)
        _check_observed(self)


@dataclass(frozen=True, slots=True)
class SnapshotGroup(_ShownGroup):
    """The full state of a source: here a static one, whose rows have no time and are taken as always known.

    `assume_always_known=True` says in so many words that history is read as if it had known today's state; leak reports name it.
    """

    assume_always_known: bool = False

    def __post_init__(self) -> None:
        """Check the source's shape, columns and output names."""
        _check_group(self)
        if self.source.shape != "static":
            raise DefinitionError(
                f"group {self.name} needs a source of shape 'static', but {self.source.name} has events; write an ObservationGroup"
            )
        if not self.assume_always_known:
            raise DefinitionError(
                f"group {self.name}: {self.source.name} is static, so nobody knows when its rows became true; "
                "write assume_always_known=True if history may be read as if they always were"
            )
        if self.ttl is not None:
            raise DefinitionError(f"group {self.name} is static: its rows do not age, so it has no ttl; remove it")
        _check_observed(self)


FeatureGroup = WindowedGroup | ObservationGroup | SnapshotGroup


@dataclass(frozen=True, slots=True, init=False)
class TransformGroup:
    """A group computed by Spark SQL or a function (not supported yet)."""

    def __init__(self, name: str, *_: object, **__: object) -> None:
        """Refuse it by name."""
        raise NotYet(f"group {name}", "TransformGroup")


@dataclass(frozen=True, slots=True, init=False)
class OnDemandFeature:
    """A feature computed at request time (not supported yet)."""

    def __init__(self, name: str, *_: object, **__: object) -> None:
        """Refuse it by name."""
        raise NotYet(f"feature {name}", "OnDemandFeature")


def _check_group(group: FeatureGroup) -> None:
    where = f"group {group.name}"
    check_name("group", group.name)
    if not isinstance(group.entity, Entity) or not isinstance(group.source, Source):
        raise DefinitionError(f"{where}: entity and source are values, like entity=customer, source=payments, not their names")
    object.__setattr__(group, "tags", texts(group.tags))
    object.__setattr__(group, "expect", expectations(where, group.expect))
    check_sql(where, {"where": group.where})
    for key, kind in group.entity.keys.items():
        check_known(where, key, group.source.columns, what=f"key of entity {group.entity.name}")
        if group.source.columns[key] != kind:
            raise DefinitionError(
                f"{where}: the key {key!r} is a {group.source.columns[key]} in {group.source.name} and a {kind} in {group.entity.name}"
            )
    every = check_span(where, "every", group.every)
    if not SHORTEST_WINDOW <= every <= DAY or DAY % every:
        raise DefinitionError(
            f"{where} runs every {group.every!r}; a cadence is 5m to 1d long and divides a day, like '5m', '1h', '6h' or '1d'"
        )
    delay = check_span(where, "publish_delay", group.publish_delay)
    check_span(where, "restate_within", group.restate_within)
    if isinstance(group, WindowedGroup | ObservationGroup):
        _check_ttl(group, every + delay)
    _check_kept(group)


def _check_kept(group: FeatureGroup) -> None:
    """Which share of an interval's rows may be held back, and how long published rows are kept."""
    where, share = f"group {group.name}", group.hold_below
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise DefinitionError(
            f"{where} has hold_below={share!r}; write the share of rows that may be held back, from 0 to below 1, like 0.01"
        )
    if share:
        refuse_not_yet(where, "hold_below")
    if group.retain is None:
        return
    refuse_not_yet(where, "retain")
    kept = check_span(where, "retain", group.retain)
    if group.ttl is None:
        raise DefinitionError(f"{where} is static: its rows do not age, so there is nothing to retain them for; remove retain")
    if kept < duration(group.ttl):
        raise DefinitionError(
            f"{where} keeps rows for {group.retain!r} and uses them for its ttl {group.ttl!r}; write a retain that is at least the ttl"
        )


def _check_ttl(group: WindowedGroup | ObservationGroup, least: timedelta) -> None:
    where = f"group {group.name}"
    if group.source.shape != "events":
        raise DefinitionError(f"{where} reads events, but {group.source.name} is {group.source.shape}; write a SnapshotGroup")
    if group.ttl is None:
        raise DefinitionError(f"{where} has no ttl; say how old a value may be when it is used, like ttl='2d'")
    if check_span(where, "ttl", group.ttl) < least:
        raise DefinitionError(
            f"{where} has the ttl {group.ttl!r}, shorter than its cadence {group.every!r} and publish delay {group.publish_delay!r}: "
            "values would be out of date before the next ones come"
        )


def _check_feature(group: WindowedGroup, feature: Feature) -> None:
    try:
        _check_against_source(feature, group)
    except DefinitionError as error:
        error.feature = feature.name
        raise


def _check_against_source(feature: Feature, group: WindowedGroup) -> None:
    where = f"{group.name}.{feature.name}"
    for window in feature.windows:
        if duration(window) % group.cadence:
            raise DefinitionError(f"{where}: the window {window!r} is not a multiple of the cadence {group.every!r}")
    columns = group.source.columns
    if feature.of is not None and COLUMN.fullmatch(feature.of.strip()):
        name = feature.of.strip()
        check_known(where, name, columns, what="column", owner=group.source.name)
        if (
            feature.aggregation in ("sum", "mean", "stddev")
            and columns[name] not in ("int64", "double")
            and not columns[name].startswith("decimal")
        ):
            raise DefinitionError(f"{where}: {feature.aggregation} of {name!r}, which is a {columns[name]}; it needs a number")


def _check_observed(group: ObservationGroup | SnapshotGroup) -> None:
    where = f"group {group.name}"
    object.__setattr__(group, "columns", texts(group.columns))
    if not group.columns:
        raise DefinitionError(f"{where} has no columns; name those of {group.source.name} that it shows, like columns=('temp',)")
    for name in group.columns:
        check_known(where, name, group.source.columns, what="column", owner=group.source.name)
    _check_outputs(group)


def _check_outputs(group: FeatureGroup) -> None:
    where = f"group {group.name}"
    check_unique(where, [*group.outputs], "output column", "rename one of the features")
    taken = {*RESERVED, *(key.lower() for key in group.entity.keys)}
    for name in group.outputs:
        if name.lower() in taken:
            raise DefinitionError(f"{where}: the output column {name!r} is already a key or a column of every feature table; rename it")
