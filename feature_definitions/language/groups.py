# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Feature groups that read one source: one table each, filled on one schedule."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from feature_definitions.language.expect import Expectation
from feature_definitions.language.features import LIFETIME, Derived, Feature, reach
from feature_definitions.language.group_rules import AnyGroup, RowTime, Warned, check_outputs, check_table, check_ttl
from feature_definitions.language.rules import (
    COLUMN,
    DefinitionError,
    DefinitionErrors,
    check_known,
    check_sql,
    listed,
    texts,
)
from feature_definitions.language.sources import Entity, Source
from feature_definitions.sql.data_types import is_number


class _OfOneSource(AnyGroup):
    """What groups that read one source have in common."""

    __slots__ = ()

    source: Source

    @property
    def inputs(self) -> tuple[Source, ...]:
        """What the group itself reads."""
        return (self.source,)

    @property
    def input_sources(self) -> tuple[Source, ...]:
        """The sources that the group itself reads."""
        return (self.source,)

    @property
    def input_groups(self) -> tuple[()]:
        """The groups that the group itself reads."""
        return ()


@dataclass(frozen=True, slots=True)
class WindowedGroup(_OfOneSource):
    """Features of an entity over windows of its events; one row per entity and grid time `T`, over exactly `[T - window, T)`.

    `hold_below` is the share of an interval's rows that may fail its expectations and be published as held (null) while the rest is
    published; with 0 one bad row rejects the interval. `retain` is how long published rows are kept (None: for ever). With
    `warnings="approve"` an interval in which an expectation warned is published only once a person says so.
    With `online=False` the rows are for training alone, and no sync brings them to the online store.
    """

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
    warnings: Warned = "publish"
    online: bool = True

    def __post_init__(self) -> None:
        """Check cadence, TTL, windows, columns and output names; what is wrong with several features is told at once."""
        _check_group(self)
        object.__setattr__(self, "features", listed(self.features))
        for feature in self.features:
            if not isinstance(feature, Feature | Derived):
                raise DefinitionError(f"group {self.name} has the feature {feature!r}; write Feature(...) or Derived(...)")
        if not any(isinstance(f, Feature) for f in self.features):
            raise DefinitionError(
                f"group {self.name} has no features; write features=(Feature('spend', 'sum', 'amount', windows=('7d',)),)"
            )
        if wrong := [error for f in self.features if isinstance(f, Feature) for error in _misfits(self, f)]:
            raise wrong[0] if len(wrong) == 1 else DefinitionErrors(wrong)
        check_outputs(self)

    @property
    def longest(self) -> timedelta:
        """How far back the longest bounded window reads; the cadence if there is none."""
        return max((span for f in self.aggregated for w in f.windows if (span := reach(w)) is not None), default=self.cadence)

    @property
    def closes_rows(self) -> bool:
        """Whether a row with the empty values is written when an entity's last window empties: unless a lifetime window never does."""
        return not self.lifetime

    @property
    def lifetime(self) -> bool:
        """Whether a feature reads all events there are."""
        return any(window == LIFETIME for feature in self.aggregated for window in feature.windows)


@dataclass(frozen=True, slots=True)
class _ShownGroup(_OfOneSource):
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
    warnings: Warned = "publish"
    online: bool = True

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
        _check_shown(self)

    @property
    def row_time(self) -> RowTime:
        """Each row lies at its event's own time."""
        return "event"


@dataclass(frozen=True, slots=True)
class SnapshotGroup(_ShownGroup):
    """The full state of a source, as it was extracted: who is absent from the next snapshot is gone.

    A snapshot holds from the time `T` at which it was extracted until the next one that gives the group any row: an interval in which
    nothing was extracted takes nobody away. The TTL counts from the newest interval that was published, as in a windowed group, not from
    the snapshot: it says that the platform ran, and an expectation on the number of rows that something was extracted.

    Of a static source the rows have no time and are taken as always known; `assume_always_known=True` says in so many words that history
    is read as if it had known today's state; leak reports name it.
    """

    assume_always_known: bool = False

    @property
    def row_time(self) -> RowTime:
        """A snapshot's rows lie at the time at which it was extracted; those of a static source have no time."""
        return "event" if self.source.shape == "snapshots" else "none"

    @property
    def by_snapshot(self) -> bool:
        """Whether an entity that the newest snapshot does not have is gone: unless the source is static."""
        return not self.is_static

    @property
    def by_coverage(self) -> bool:
        """Whether values are as old as the newest published interval, not as their own row; static ones do not age."""
        return not self.is_static

    def __post_init__(self) -> None:
        """Check the source's shape, columns and output names."""
        _check_group(self)
        if self.source.shape == "events":
            raise DefinitionError(
                f"group {self.name} needs a source of shape 'snapshots' or 'static', but {self.source.name} has events; "
                "write an ObservationGroup"
            )
        if self.source.shape == "static":
            _check_static(self)
        elif self.assume_always_known:
            raise DefinitionError(
                f"group {self.name}: the snapshots of {self.source.name} say when they were extracted, so nothing is assumed; "
                "remove assume_always_known, which is for static sources"
            )
        _check_shown(self)


SourceGroup = WindowedGroup | ObservationGroup | SnapshotGroup
"""A group that reads one source."""


# ------------------------------------------------------------------------------------------- checks of groups that read one source


def _check_group(group: SourceGroup) -> None:
    where = f"group {group.name}"
    if not isinstance(group.source, Source):
        raise DefinitionError(f"{where}: entity and source are values, like entity=customer, source=payments, not their names")
    check_table(group)
    check_sql(where, {"where": group.where})
    for key, data_type in group.entity.keys.items():
        check_known(where, key, group.source.columns, what=f"key of entity {group.entity.name}", owner=group.source.name)
        if group.source.columns[key] != data_type:
            raise DefinitionError(
                f"{where}: the key {key!r} has the type {group.source.columns[key]} in {group.source.name}, "
                f"{data_type} in {group.entity.name}; write one type"
            )
    if not isinstance(group, SnapshotGroup):
        if group.source.shape != "events":
            raise DefinitionError(f"{where} reads events, but {group.source.name} is {group.source.shape}; write a SnapshotGroup")
        check_ttl(group)
    elif group.source.shape == "snapshots":
        check_ttl(group)


def _check_static(group: SnapshotGroup) -> None:
    where = f"group {group.name}"
    if not group.assume_always_known:
        raise DefinitionError(
            f"{where}: {group.source.name} is static, so nobody knows when its rows became true; "
            "write assume_always_known=True if history may be read as if they always were"
        )
    if group.ttl is not None:
        raise DefinitionError(f"{where} is static: its rows do not age, so it has no ttl; remove it")
    if group.retain is not None:
        raise DefinitionError(f"{where} is static: its rows do not age, so it has no retain; remove it")


def _check_shown(group: ObservationGroup | SnapshotGroup) -> None:
    where = f"group {group.name}"
    object.__setattr__(group, "columns", texts(group.columns))
    if not group.columns:
        raise DefinitionError(f"{where} has no columns; name those of {group.source.name} that it shows, like columns=('temp',)")
    for name in group.columns:
        check_known(where, name, dict.fromkeys(group.source.names), what="column", owner=group.source.name)
    check_outputs(group)


def _misfits(group: WindowedGroup, feature: Feature) -> Iterator[DefinitionError]:
    """What is wrong with a feature in its group, as far as that shows without SQL."""
    for check in (_check_grid, _check_of, _check_by):
        try:
            check(group, feature)
        except DefinitionError as error:
            error.feature = feature.name
            yield error


def _check_grid(group: WindowedGroup, feature: Feature) -> None:
    for window in feature.windows:
        span = reach(window)
        if span is not None and span % group.cadence:
            what = f"the window {window!r} is" if isinstance(window, str) else f"{window!r} reaches {window.within!r} back, which is"
            raise DefinitionError(f"{group.name}.{feature.name}: {what} not a multiple of the cadence {group.every!r}")


def _check_of(group: WindowedGroup, feature: Feature) -> None:
    if feature.of is None or not COLUMN.fullmatch(feature.of.strip()):
        return
    where, name, columns = f"{group.name}.{feature.name}", feature.of.strip(), group.source.columns
    check_known(where, name, dict.fromkeys(group.source.names), what="column", owner=group.source.name)
    data_type = columns.get(name, "double")
    if feature.meaning.takes == "numbers" and not is_number(data_type):
        raise DefinitionError(f"{where}: {feature.aggregation} of {name!r}, which is a {data_type}; it needs a number")


def _check_by(group: WindowedGroup, feature: Feature) -> None:
    if feature.by is None:
        return
    where, ((column, values),) = f"{group.name}.{feature.name}", feature.by.items()
    check_known(where, column, dict.fromkeys(group.source.names), what="column", owner=group.source.name)
    data_type, wanted = group.source.columns.get(column), "int64" if isinstance(values[0], int) else "string"
    if data_type not in (None, wanted):
        raise DefinitionError(f"{where}: by {column!r}, which is a {data_type}, with the value {values[0]!r}; write values of that type")
