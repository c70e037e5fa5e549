# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""What every feature group has, and the rules that all of them keep: name, cadence, spans of time, expectations, output columns."""

from datetime import timedelta
from typing import Literal, get_args

from feature_definitions.intervals import DAY, duration
from feature_definitions.language.expect import Expectation, expectations
from feature_definitions.language.features import SHORTEST_WINDOW, Derived, Feature
from feature_definitions.language.rules import RESERVED, DefinitionError, check_name, check_span, check_unique, texts
from feature_definitions.language.sources import Entity

RowTime = Literal["end", "event", "none"]
"""Where a group's rows lie in time: at the ends of its intervals, at the times of events inside of them, or nowhere (static)."""
Warned = Literal["publish", "approve"]
"""What becomes of an interval in which an expectation warned: it is published, or it waits for a person."""


class AnyGroup:
    """What all groups have, and the properties by which kinds of groups differ."""

    __slots__ = ()

    name: str
    entity: Entity
    every: str
    ttl: str | None
    publish_delay: str
    restate_within: str
    tags: tuple[str, ...]
    expect: tuple[Expectation, ...]
    hold_below: float
    retain: str | None
    warnings: Warned
    online: bool

    @property
    def cadence(self) -> timedelta:
        """How much time one interval covers, or how often a static source is looked at again."""
        return duration(self.every)

    @property
    def row_time(self) -> RowTime:
        """Where the group's rows lie in time."""
        return "end"

    @property
    def is_static(self) -> bool:
        """Whether a group's rows have no time."""
        return self.row_time == "none"

    @property
    def keeps_rows(self) -> bool:
        """Whether a row stays, with the empty values, when its events are gone; other groups retract it."""
        return self.row_time == "end"

    @property
    def by_coverage(self) -> bool:
        """Whether values are as old as the newest published interval; else each is as old as its own row."""
        return self.row_time == "end"

    @property
    def by_snapshot(self) -> bool:
        """Whether an entity that the newest snapshot does not have is gone."""
        return False

    @property
    def closes_rows(self) -> bool:
        """Whether a row with the empty values is written when an entity's last window empties."""
        return False

    @property
    def longest(self) -> timedelta:
        """How far before its end an interval reads; nothing of what lies before the interval, if there are no windows."""
        return timedelta(0)

    @property
    def lifetime(self) -> bool:
        """Whether a feature reads all events there are."""
        return False

    @property
    def features(self) -> tuple[Feature | Derived, ...]:
        """The features as they are written; groups without windows have columns."""
        return ()

    @property
    def aggregated(self) -> tuple[Feature, ...]:
        """The aggregations to compute, in order: each feature, or with `by` one for each of its values."""
        return tuple(each for feature in self.features if isinstance(feature, Feature) for each in feature.expanded)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns of the table, in order."""
        return tuple(column for feature in self.features for column in feature.columns)

    @property
    def ages(self) -> frozenset[str]:
        """The columns that hold the time of the last event, and that readers see as the seconds since then."""
        return frozenset(column for f in self.aggregated if f.meaning.is_age for column in f.columns)


def check_table(group: AnyGroup) -> None:
    """Refuse a wrong name, entity, cadence, span of time or expectation: what every group has."""
    where = f"group {group.name}"
    check_name("group", group.name)
    if not isinstance(group.entity, Entity):
        raise DefinitionError(f"{where}: entity and source are values, like entity=customer, source=payments, not their names")
    object.__setattr__(group, "tags", texts(group.tags))
    object.__setattr__(group, "expect", expectations(where, group.expect))
    every = check_span(where, "every", group.every)
    if not SHORTEST_WINDOW <= every <= DAY or DAY % every:
        raise DefinitionError(
            f"{where} runs every {group.every!r}; a cadence is 5m to 1d long and divides a day, like '5m', '1h', '6h' or '1d'"
        )
    check_span(where, "publish_delay", group.publish_delay)
    check_span(where, "restate_within", group.restate_within)
    _check_kept(group)
    if group.warnings not in get_args(Warned):
        raise DefinitionError(
            f"{where} has warnings={group.warnings!r}; write 'publish', or 'approve' if a person is to look at them before anybody reads"
        )


def _check_kept(group: AnyGroup) -> None:
    """Which share of an interval's rows may be held back, and how long published rows are kept."""
    where, share = f"group {group.name}", group.hold_below
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise DefinitionError(
            f"{where} has hold_below={share!r}; write the share of rows that may be held back, from 0 to below 1, like 0.01"
        )
    if group.retain is None:
        return
    kept = check_span(where, "retain", group.retain)
    if group.ttl is not None and kept < check_span(where, "ttl", group.ttl):
        raise DefinitionError(
            f"{where} keeps rows for {group.retain!r} and uses them for its ttl {group.ttl!r}; write a retain that is at least the ttl"
        )


def check_ttl(group: AnyGroup) -> None:
    """Refuse values that would be out of date before the next ones come."""
    where = f"group {group.name}"
    if group.ttl is None:
        raise DefinitionError(f"{where} has no ttl; say how old a value may be when it is used, like ttl='2d'")
    if check_span(where, "ttl", group.ttl) < group.cadence + duration(group.publish_delay):
        raise DefinitionError(
            f"{where} has the ttl {group.ttl!r}, shorter than its cadence {group.every!r} and publish delay {group.publish_delay!r}: "
            "values would be out of date before the next ones come"
        )


def check_outputs(group: AnyGroup) -> None:
    """Refuse output columns that stand twice, or that the table has already."""
    where = f"group {group.name}"
    check_unique(where, [*group.outputs], "output column", "rename one of the features")
    taken = {*RESERVED, *(key.lower() for key in group.entity.keys)}
    for name in group.outputs:
        if name.lower() in taken:
            raise DefinitionError(f"{where}: the output column {name!r} is already a key or a column of every feature table; rename it")
