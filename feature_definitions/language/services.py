"""What readers ask for: feature services, their joins and labels, and training sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from feature_definitions.language.expect import ROWS, Expectation, by_column
from feature_definitions.language.requests import OnDemandFeature
from feature_definitions.language.rules import (
    DefinitionError,
    check_known,
    check_name,
    check_span,
    check_unique,
    listed,
    texts,
)
from feature_definitions.language.sources import Query, Source
from feature_definitions.language.splits import Split
from feature_definitions.language.transforms import FeatureGroup
from feature_definitions.layout import ROW_PART, is_of_training_sets


@dataclass(frozen=True, slots=True)
class Join:
    """A group's features in a service: output columns or features (with all their windows); none named means all.

    `prefix` replaces the group's name in `<group>__<column>`, so that a group may be joined twice; `on` maps the entity's keys to the
    caller's columns, as in `on={"airport": "origin"}`.
    """

    group: FeatureGroup
    features: tuple[str, ...] = ()
    prefix: str | None = None
    on: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the features and keys named exist."""
        if not isinstance(self.group, FeatureGroup):
            raise DefinitionError(f"Join takes a feature group, not {self.group!r}")
        where = f"join of {self.group.name}"
        object.__setattr__(self, "features", texts(self.features))
        object.__setattr__(self, "on", MappingProxyType(dict(self.on or {})))
        if self.prefix is not None:
            check_name("prefix", self.prefix)
        names = dict.fromkeys((*self.group.outputs, *_by_name(self.group)))
        for name in self.features:
            check_known(where, name, names, what="feature")
        for key in self.on:
            check_known(where, key, self.group.entity.keys, what="entity key")

    @property
    def name(self) -> str:
        """What stands before `__` in the output columns."""
        return self.prefix or self.group.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The group's columns that are asked for, in the order asked."""
        if not self.features:
            return self.group.outputs
        by_name = _by_name(self.group)
        asked = (c for name in self.features for c in ((name,) if name in self.group.outputs else by_name[name]))
        return tuple(dict.fromkeys(asked))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns of a training set or an answer: `<group or prefix>__<column>`."""
        return tuple(f"{self.name}__{column}" for column in self.columns)

    @property
    def keys(self) -> tuple[str, ...]:
        """The caller's columns that hold the entity's keys, in the entity's order."""
        return tuple(self.on.get(key, key) for key in self.group.entity.keys)


@dataclass(frozen=True, slots=True)
class FeatureService:
    """The named, versioned list of features that a model reads, in training and online.

    `defaults` names output columns, and the value that stands for null in each of them, in training and online alike.
    """

    name: str
    version: int = 1
    joins: tuple[Join, ...] = ()
    on_demand: tuple[OnDemandFeature, ...] = ()
    online: bool = True
    defaults: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the output names do not collide."""
        where = f"service {self.name}"
        check_name("service", self.name)
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise DefinitionError(f"{where} has the version {self.version!r}; write a whole number from 1")
        joins = tuple(j if isinstance(j, Join) else Join(j) for j in listed(self.joins))
        object.__setattr__(self, "joins", joins)
        if not joins:
            raise DefinitionError(f"{where} joins nothing; write joins=(Join(customer_spend),)")
        check_unique(where, [j.name for j in joins], "join", "give one of them a prefix, like Join(group, prefix='origin')")
        check_unique(where, [c for j in joins for c in j.outputs], "output column", "give one of them a prefix")
        object.__setattr__(self, "on_demand", listed(self.on_demand))
        _check_online(where, self)
        _check_on_demand(where, self)
        _check_statuses(where, self)
        object.__setattr__(self, "defaults", _defaults(where, self))

    @property
    def keys(self) -> Mapping[str, str]:
        """The caller's key columns and their types."""
        return {key: data_type for j in self.joins for key, data_type in zip(j.keys, j.group.entity.keys.values(), strict=True)}

    @property
    def requests(self) -> Mapping[str, str]:
        """The fields that a request brings beside the keys, for the features that are computed then, and their types."""
        return {name: kind for feature in self.on_demand for name, kind in feature.requests.items() if name not in self.keys}

    @property
    def asked(self) -> Mapping[str, str]:
        """What a caller brings, a request or a spine, with the types: the keys, and the fields of requests."""
        return {**self.keys, **self.requests}

    @property
    def joined(self) -> tuple[str, ...]:
        """The output columns that joins give, in order."""
        return tuple(column for join in self.joins for column in join.outputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """All output columns, in order: those of joins, then the features computed on demand, each by its name."""
        return (*self.joined, *(feature.name for feature in self.on_demand))


Immature = Literal["refuse", "leave out"]


@dataclass(frozen=True, slots=True)
class Label:
    """A spine's column that a model learns, and how long after the event timestamp it is known for sure.

    Rows whose horizon is not over yet are `immature`: they refuse the training set, or are left out of it until it is.
    """

    column: str
    horizon: str
    immature: Immature = "refuse"

    def __post_init__(self) -> None:
        """Check the horizon, and what becomes of rows that are too young."""
        check_span(f"label {self.column}", "horizon", self.horizon)
        if self.immature not in ("refuse", "leave out"):
            raise DefinitionError(f"label {self.column} has immature={self.immature!r}; write 'refuse' or 'leave out'")


Mode = Literal["event_time", "as_known", "as_served"]
MODES = ("event_time", "as_known", "as_served")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A spine (a source with the keys of a service) joined point in time with the service's features.

    `split` says in which part each row is; `"time"` stands for `Split("time")`, and so on. `expect` is what must hold before anybody
    sees it: `row_count` and `expression`, or by column, as in `{"*": row_count(at_least=1000), "spend__paid_7d": not_null(0.9)}`. With
    `statuses` it has a column `<join>__hw_status` for each join and each feature computed on demand.
    """

    name: str
    spine: Source
    service: FeatureService
    label: Label | None = None
    mode: Mode = "as_known"
    split: Split | str | None = None
    expect: Expectation | tuple[Expectation, ...] | Mapping[str, object] = ()
    statuses: bool = False

    def __post_init__(self) -> None:
        """Check the mode, the spine's keys and that no label is among the features."""
        where = f"training set {self.name}"
        check_name("training set", self.name)
        check_no_verb(self.name)
        object.__setattr__(self, "split", _split(where, self))
        object.__setattr__(self, "expect", by_column(where, self.expect))
        _check_parts(where, self)
        check_mode(where, self.mode)
        if self.spine.shape != "events":
            raise DefinitionError(f"{where}: its spine {self.spine.name} has no event timestamp; a spine is a source of shape 'events'")
        for key, data_type in self.service.keys.items():
            check_known(where, key, self.spine.columns, what="entity key")
            if self.spine.columns[key] != data_type:
                raise DefinitionError(
                    f"{where}: the key {key!r} has the type {self.spine.columns[key]} in {self.spine.name}, "
                    f"{data_type} in the service; write one type"
                )
        for name, data_type in self.service.requests.items():
            _check_field(where, self, name, data_type)
        if self.label is not None:
            _check_label(where, self, self.label)
        for column in (each for each, _ in self.expected if each is not None):
            check_known(f"{where}, expect", column, dict.fromkeys(self.columns), what="column")

    @property
    def expected(self) -> tuple[tuple[str | None, Expectation], ...]:
        """What is expected, each with its column; None if it is about rows."""
        stated = by_column(f"training set {self.name}", self.expect)
        return tuple((None if column == ROWS else column, each) for column, found in stated.items() for each in found)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that something can be expected of: the spine's, the service's, and that of the split."""
        return (*self.spine.names, *self.service.outputs, *([] if self.split is None else [ROW_PART]))

    @property
    def cut(self) -> Split | None:
        """How it is cut into parts, if it is."""
        return self.split if isinstance(self.split, Split) else None


VERBS = ("build", "show", "verify", "diff", "list", "append", "add", "export")
"""What the command does with training sets, by the words behind `training-set`: none of them is a training set's name."""


def check_no_verb(name: str) -> None:
    """Refuse a training set's name that says what the command shall do with one."""
    if name in VERBS:
        raise DefinitionError(f"{name!r} cannot name a training set: headwater training-set {name} does something; write {name}_set")


def _check_online(where: str, service: FeatureService) -> None:
    offline = sorted({j.group.name for j in service.joins if not j.group.online}) if service.online else []
    if offline:
        raise DefinitionError(
            f"{where} is online, but {', '.join(offline)} has online=False; write online=False here too, which leaves the service to "
            "training sets, or let the group be online"
        )


def check_mode(where: str, mode: str) -> None:
    """Refuse a point-in-time mode that does not exist."""
    if mode not in MODES:
        raise DefinitionError(f"{where} has the mode {mode!r}; write 'as_known', 'event_time' or 'as_served'")


def _check_parts(where: str, training: TrainingSet) -> None:
    parts: tuple[tuple[str, object, type], ...] = (("spine", training.spine, Source), ("service", training.service, FeatureService))
    for what, value, kind in parts:
        if not isinstance(value, kind):
            given = "a query; write Source('name', at=Query(...), ...)" if isinstance(value, Query) else repr(value)
            raise DefinitionError(f"{where}: its {what} is a {kind.__name__}, like {what}=my_{what}, not {given}")
    label: object = training.label
    if label is not None and not isinstance(label, Label):
        raise DefinitionError(f"{where}: write the label with its horizon, like label=Label({label!r}, '30d')")


def _split(where: str, training: TrainingSet) -> Split | None:
    """How it is cut; a text says the way alone."""
    given: object = training.split
    found = Split(given) if isinstance(given, str) else given  # type: ignore[arg-type]  # an unknown way is refused
    if found is not None and not isinstance(found, Split):
        raise DefinitionError(f"{where} has split={given!r}; write split=Split('time', shares={{'train': 0.8, 'test': 0.2}})")
    if found is not None and found.by == "label" and training.label is None:
        raise DefinitionError(f"{where} is split by label and has none; write label=Label('column', '30d'), or split by time")
    return found


def _check_field(where: str, training: TrainingSet, name: str, data_type: str) -> None:
    """Check that a spine has what a request brings online."""
    check_known(where, name, dict.fromkeys(training.spine.names), what="column")
    declared = training.spine.columns.get(name, data_type)
    if declared != data_type:
        raise DefinitionError(
            f"{where}: the field {name!r} has the type {declared} in {training.spine.name}, {data_type} in the service; write one type"
        )


def _check_label(where: str, training: TrainingSet, label: Label) -> None:
    if label.column in training.service.requests:
        raise DefinitionError(f"{where}: the label {label.column!r} is what a request brings, so it is among its own features; remove it")
    check_known(where, label.column, dict.fromkeys(training.spine.names), what="label")
    for join in training.service.joins:
        shown = join.group.row_time == "event" and training.spine.name in {source.name for source in join.group.input_sources}
        if shown and label.column in join.columns:
            raise DefinitionError(
                f"{where}: the label {label.column!r} is among its own features, as {join.name}__{label.column}; remove it"
            )


def _by_name(group: FeatureGroup) -> dict[str, tuple[str, ...]]:
    """The columns of each feature by its name, and with `by` those of each value's too."""
    return {f.name: f.columns for f in (*group.aggregated, *group.features)}


def _check_on_demand(where: str, service: FeatureService) -> None:
    """Check that what is computed on demand reads what there is, and has names and types that agree."""
    types = dict(service.keys)
    for feature in service.on_demand:
        if not isinstance(feature, OnDemandFeature):
            raise DefinitionError(f"{where}: on_demand takes features, like on_demand=(OnDemandFeature(...),), not {feature!r}")
        for column in feature.refs:
            check_known(f"{where}, feature {feature.name}", column, dict.fromkeys(service.joined), what="output column", owner=where)
        for name, kind in feature.requests.items():
            if types.setdefault(name, kind) != kind:
                other = f"elsewhere it is {types[name]}"
                raise DefinitionError(f"{where}: feature {feature.name} takes the field {name!r} as {kind}, and {other}; write one type")
    taken = [name.lower() for name in (*service.outputs, *service.keys, *service.requests)]
    check_unique(where, taken, "name", "keys, fields of the request and features are columns of one training set; rename one")


def _check_statuses(where: str, service: FeatureService) -> None:
    """Check that each join and each feature computed on demand can have a status, in an answer and in a training set."""
    names = [*(join.name for join in service.joins), *(feature.name for feature in service.on_demand)]
    check_unique(where, names, "status", "joins and features computed on demand have a status each, by their names; rename one")
    for output in service.outputs:
        if is_of_training_sets(output):
            raise DefinitionError(f"{where}: the output {output!r} has a name that is kept for a training set's own columns; rename it")


def _defaults(where: str, service: FeatureService) -> Mapping[str, object]:
    """What stands for null, frozen, if it is of output columns; whether it is of their types is checked by `feature_definitions.check`."""
    if not isinstance(service.defaults, Mapping):
        raise DefinitionError(f"{where} has defaults={service.defaults!r}; write them by column, like defaults={{'spend__n_1d': 0}}")
    for name, value in service.defaults.items():
        check_known(where, name, dict.fromkeys(service.joined), what="output column")
        if value is None:
            raise DefinitionError(f"{where}: the default of {name!r} is None, which it is without a default; remove it or write a value")
    return MappingProxyType(dict(service.defaults))
