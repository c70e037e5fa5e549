"""What the registry remembers of many groups at one moment: each fact is asked for once, and of all groups together."""

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Generic

from feature_definitions.record_rows import Record

if TYPE_CHECKING:
    from feature_registry.registry import Registry
    from feature_registry.schema import Remembered


class Facts(Generic[Record]):
    """Records of one kind by the first columns of their key, each read when it is first asked for, or ahead of that."""

    def __init__(self, registry: "Registry", kind: "Remembered[Record]", *, together: Iterable[tuple[Hashable, ...]] = ()) -> None:
        """Ask the registry; the first question is also about all keys that belong together."""
        self._registry, self._kind, self._together = registry, kind, tuple(together)
        self._held: dict[tuple[Hashable, ...], tuple[Record, ...]] = {}

    def __call__(self, *key: Hashable) -> tuple[Record, ...]:
        """The records of a key, in the order of the primary key."""
        if key not in self._held:
            self.ahead((key, *self._together))
        return self._held[key]

    def ahead(self, keys: Iterable[tuple[Hashable, ...]]) -> None:
        """Read the records of many keys at once, as far as they were not read before."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._held]
        if missing:
            self._held.update(self._registry.many(self._kind, missing))
