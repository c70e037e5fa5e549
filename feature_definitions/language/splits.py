# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""How a training set is cut into parts to learn from and to judge by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Literal

from feature_definitions.language.rules import DefinitionError, check_name

By = Literal["time", "entity", "random", "label"]
WAYS: tuple[By, ...] = ("time", "entity", "random", "label")
SHARES: Mapping[str, float] = MappingProxyType({"train": 0.7, "validation": 0.15, "test": 0.15})


@dataclass(frozen=True, slots=True)
class Split:
    """In which part each row of a training set is, in its column `hw_split`: `shares` are the parts' names and sizes, in their order.

    By `time` earlier rows come in earlier parts, rows of one second in one; a row whose label is decided only after its part's end is in
    none (null). By `entity` all rows of the same keys are in one part, also in later builds; by `random` equal rows are. By `label` each
    value of the label has these shares. `seed` gives other parts of the same sizes.
    """

    by: By = "time"
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the way, and that the shares are parts of a whole; as percents or weights they are taken as such."""
        if self.by not in WAYS:
            raise DefinitionError(f"a split by {self.by!r} is not known; write one of {', '.join(map(repr, WAYS))}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**63:
            raise DefinitionError(f"a split has the seed {self.seed!r}; write a whole number")
        object.__setattr__(self, "shares", _shares(self.shares))


def _shares(given: object) -> Mapping[str, float]:
    """The shares, which add up to 1."""
    like = "write them by name, like shares={'train': 0.8, 'test': 0.2}"
    if not isinstance(given, Mapping) or not given:
        raise DefinitionError(f"a split has shares={given!r}; {like}")
    for name, share in given.items():
        check_name("part of a split", name)
        if isinstance(share, bool) or not isinstance(share, int | float) or not isfinite(share) or share <= 0:
            raise DefinitionError(f"the part {name!r} of a split has the share {share!r}; {like}")
    total = sum(given.values())
    if not any(abs(total - whole) < 1e-9 * whole for whole in (1, 100)):
        raise DefinitionError(f"the shares of a split add up to {total:g}, not to 1 (or to 100 percent); {like}")
    return MappingProxyType({name: share / total for name, share in given.items()})
