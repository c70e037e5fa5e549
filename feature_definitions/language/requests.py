# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Features that a function computes at the time of the request, from a service's features and what the request brings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from feature_definitions.language.rules import COLUMN, DefinitionError, check_name, check_type, check_unique, listed
from feature_definitions.language.transforms import takes

SHORTEST_LIMIT, LONGEST_LIMIT = 0.001, 5.0
"""Seconds that a function may be given; a server that gives no sign of life for longer is taken for dead."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An output column of the service as an input, `<group or prefix>__<column>`; where the service has a default, it stands for null."""

    column: str

    def __post_init__(self) -> None:
        """Check that it can be an output column."""
        if not isinstance(self.column, str) or "__" not in self.column or not COLUMN.fullmatch(self.column):
            raise DefinitionError(
                f"Ref({self.column!r}) is no output column; write it as the service gives it, like Ref('spend__total_7d')"
            )


@dataclass(frozen=True, slots=True)
class Request:
    """A field of the request as an input, with its type; in training it is the spine's column of that name."""

    field: str
    type: str

    def __post_init__(self) -> None:
        """Check its name and type."""
        if not isinstance(self.field, str) or not COLUMN.fullmatch(self.field) or self.field.startswith("_hw_"):
            raise DefinitionError(f"{self.field!r} cannot name a field of a request; write letters, digits and _")
        check_type("a request", self.field, self.type)
        object.__setattr__(self, "type", self.type.replace(" ", ""))


@dataclass(frozen=True, slots=True)
class OnDemandFeature:
    """A feature computed by one function, at the request and in training alike, for each row from that row alone.

    The function takes its inputs in their order and gives one value for each row: numpy arrays, or with `rows` the Python values of one
    row. An input that is null arrives as None: rows that lack the same inputs come together, those that they lack as arrays of None.
    A row for which the function raises is null, with the status FAILED; so is one whose value `type` cannot hold exactly. A number that is
    not finite is null.

    `limit_seconds` is how long the function may take for one request to a server. Once it takes longer, the feature is FAILED until the
    server takes up the definitions anew. Training waits.
    """

    name: str
    inputs: tuple[Ref | Request, ...]
    type: str
    function: Callable[..., object]
    rows: bool = False
    limit_seconds: float = 1.0
    owner: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the name, what it reads, and that the function can be called so."""
        where = f"feature {self.name}"
        check_name("feature", self.name)
        check_type(where, self.name, self.type)
        object.__setattr__(self, "type", self.type.replace(" ", ""))
        object.__setattr__(self, "inputs", listed(self.inputs))
        object.__setattr__(self, "tags", listed(self.tags))
        _check_inputs(where, self)
        _check_function(where, self)
        _check_limit(where, self.limit_seconds)

    @property
    def refs(self) -> tuple[str, ...]:
        """The output columns of the service that it reads."""
        return tuple(each.column for each in self.inputs if isinstance(each, Ref))

    @property
    def requests(self) -> dict[str, str]:
        """The fields of the request that it reads, with their types."""
        return {each.field: each.type for each in self.inputs if isinstance(each, Request)}

    def typed_inputs(self, outputs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The columns of the inputs, in their order, with their types; `outputs` are those of what the service joins."""
        return tuple((i.column, outputs[i.column]) if isinstance(i, Ref) else (i.field, i.type) for i in self.inputs)


def _check_inputs(where: str, feature: OnDemandFeature) -> None:
    for each in feature.inputs:
        if not isinstance(each, Ref | Request):
            raise DefinitionError(f"{where} reads {each!r}; write what it reads as Ref('spend__total_7d') or Request('amount', 'double')")
    if not feature.inputs:
        raise DefinitionError(f"{where} reads nothing; name its inputs, like inputs=(Ref('spend__total_7d'), Request('amount', 'double'))")
    check_unique(where, [each.column if isinstance(each, Ref) else each.field for each in feature.inputs], "input", "name it once")


def _check_function(where: str, feature: OnDemandFeature) -> None:
    if not callable(feature.function):
        raise DefinitionError(f"{where} has function={feature.function!r}; write a function of its inputs that gives its value")
    if not takes(feature.function, len(feature.inputs)):
        names = ", ".join([each.column if isinstance(each, Ref) else each.field for each in feature.inputs])
        raise DefinitionError(f"{where}: its function cannot be called with its inputs; let it take one argument for each: {names}")


def _check_limit(where: str, seconds: object) -> None:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not SHORTEST_LIMIT <= seconds <= LONGEST_LIMIT:
        raise DefinitionError(
            f"{where} has limit_seconds={seconds!r}; write from {SHORTEST_LIMIT:g} to {LONGEST_LIMIT:g} seconds, like limit_seconds=0.05"
        )
