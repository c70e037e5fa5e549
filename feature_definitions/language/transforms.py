# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Feature groups that Spark SQL or a function computes from several sources and groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from feature_definitions.intervals import duration
from feature_definitions.language.expect import Expectation
from feature_definitions.language.features import LONGEST_WINDOW
from feature_definitions.language.group_rules import AnyGroup, Warned, check_outputs, check_table, check_ttl
from feature_definitions.language.groups import SourceGroup
from feature_definitions.language.rules import DefinitionError, check_columns, check_span, check_sql, check_unique, listed, typed
from feature_definitions.language.sources import Entity, Source


@dataclass(frozen=True, slots=True)
class TransformGroup(AnyGroup):
    """A group computed by Spark SQL, or by a function of DataFrames, from the rows of its inputs in `[T - lookback, T)`.

    Each input, a source or another group (its published rows), is a view of its name in `sql`, and in its order an argument of
    `function`. The result has the entity's keys and the columns of `schema`, one row per entity. Groups are values, so a group can only
    read one that was made before it: there are no cycles, except through names, which are refused.

    Of a source the events of that time are read; of a group the rows of its intervals that end in `(T - lookback, T]`, so with a lookback
    of its cadence the newest one, of static groups all. A group's rows have their event timestamp and no row where all windows are empty.
    A row holds until the group's next interval is published: an entity that the computation does not give then has no values.
    """

    name: str
    entity: Entity
    inputs: tuple["Source | FeatureGroup", ...]
    sql: str | None = None
    function: Callable[..., object] | None = None
    lookback: str | None = None
    schema: Mapping[str, str] = field(default_factory=dict)
    every: str = "1d"
    ttl: str | None = None
    publish_delay: str = "0s"
    restate_within: str = "3d"
    owner: str = ""
    tags: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()
    hold_below: float = 0.0
    retain: str | None = None
    warnings: Warned = "publish"
    online: bool = True

    def __post_init__(self) -> None:
        """Check what is read, how, how far back, and what comes out."""
        check_table(self)
        _check_inputs(self)
        _check_computation(self)
        _check_lookback(self)
        _check_reach(self)
        _check_schema(self)
        check_ttl(self)
        check_outputs(self)

    @property
    def longest(self) -> timedelta:
        """How far back the inputs are read."""
        return duration(self.lookback or self.every)

    @property
    def input_sources(self) -> tuple[Source, ...]:
        """The sources that the group itself reads."""
        return tuple(each for each in self.inputs if isinstance(each, Source))

    @property
    def input_groups(self) -> "tuple[FeatureGroup, ...]":
        """The groups that the group itself reads."""
        return tuple(each for each in self.inputs if not isinstance(each, Source))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns of the table, in order."""
        return tuple(self.schema)


FeatureGroup = SourceGroup | TransformGroup
"""A group of features: one table, one schedule."""


# ------------------------------------------------------------------------------------------------------------------------ checks


def _check_inputs(group: TransformGroup) -> None:
    where = f"group {group.name}"
    object.__setattr__(group, "inputs", listed(group.inputs))
    if not group.inputs:
        raise DefinitionError(f"{where} reads nothing; name its sources and groups, like inputs=(payments,)")
    for each in group.inputs:
        if not isinstance(each, Source | SourceGroup | TransformGroup):
            raise DefinitionError(f"{where} reads {each!r}; inputs are sources and groups as values, like inputs=(payments,)")
    names = [each.name for each in group.inputs]
    check_unique(where, names, "input", "each is a view of its name; remove or rename one")
    if path := _path_to(group.name, group):
        raise DefinitionError(f"{where} goes round in a circle: {' reads '.join(path)}; give it a name of its own")
    for each in group.inputs:
        _check_input(group, each)


def _check_input(group: TransformGroup, read: Source | SourceGroup | TransformGroup) -> None:
    where = f"group {group.name}"
    if isinstance(read, Source):
        if read.shape == "static":
            raise DefinitionError(
                f"{where} reads {read.name}, which is static, so nobody knows when its rows became true; "
                "read a SnapshotGroup over it that says assume_always_known=True"
            )
    elif duration(group.publish_delay) < duration(read.publish_delay):
        raise DefinitionError(
            f"{where} has the publish delay {group.publish_delay!r}, but {read.name}, which it reads, is there only "
            f"{read.publish_delay} after an interval's end; write publish_delay={read.publish_delay!r} or more"
        )


def _path_to(name: str, group: TransformGroup) -> tuple[str, ...]:
    """How a group reads something of a name, as names from it on; empty if it does not."""
    for each in group.inputs:
        if each.name == name:
            return (group.name, each.name)
        if isinstance(each, TransformGroup) and (path := _path_to(name, each)):
            return (group.name, *path)
    return ()


def _check_computation(group: TransformGroup) -> None:
    where = f"group {group.name}"
    check_sql(where, {"sql": group.sql})
    if (group.sql is None) == (group.function is None):
        raise DefinitionError(f"{where} is computed by SQL or by a function: write exactly one of sql='SELECT ...' and function=...")
    if group.function is not None and not callable(group.function):
        raise DefinitionError(f"{where} has function={group.function!r}; write a function from its inputs' DataFrames to one DataFrame")
    if group.function is not None and not takes(group.function, len(group.inputs)):
        names = ", ".join(each.name for each in group.inputs)
        raise DefinitionError(f"{where}: its function cannot be called with its inputs; let it take one DataFrame for each: {names}")


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with so many arguments; one that does not tell is believed."""
    import inspect

    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _check_lookback(group: TransformGroup) -> None:
    where = f"group {group.name}"
    if group.lookback is None:
        raise DefinitionError(
            f"{where} has no lookback; say how far back from T it reads its inputs, like lookback='30d', so that a late event is known to "
            "change only the rows it can"
        )
    lookback = check_span(where, "lookback", group.lookback)
    if lookback % group.cadence or not group.cadence <= lookback <= LONGEST_WINDOW:
        raise DefinitionError(f"{where} has the lookback {group.lookback!r}; write a multiple of its cadence {group.every!r}, at most 730d")


def _check_reach(group: TransformGroup) -> None:
    """Refuse inputs of which no row can lie in the lookback."""
    where = f"group {group.name}"
    for read in group.inputs:
        if isinstance(read, Source) or read.is_static:
            continue
        if read.cadence > group.longest:
            raise DefinitionError(
                f"{where} has the lookback {group.lookback!r}, but {read.name} has rows every {read.every!r} only; "
                f"write lookback={read.every!r} or more"
            )
        if read.retain is not None and duration(read.retain) < group.longest:
            raise DefinitionError(
                f"{where} has the lookback {group.lookback!r}, but {read.name} keeps its rows for {read.retain!r} only; let it retain more"
            )
    if all(not isinstance(read, Source) and read.is_static for read in group.inputs):
        raise DefinitionError(f"{where} reads only rows without time, so nothing says when to compute it; read events too")


def _check_schema(group: TransformGroup) -> None:
    where = f"group {group.name}"
    if not group.schema:
        raise DefinitionError(f"{where} has no schema; name its output columns with their types, like schema={{'score': 'double'}}")
    check_columns(where, group.schema)
    object.__setattr__(group, "schema", typed(group.schema))
