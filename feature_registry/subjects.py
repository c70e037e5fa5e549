"""What is worked on alone: a group, a source, a set of tiles, a training set; each with the tables that only its lease lets write."""

from collections.abc import Sequence

from feature_definitions import layout
from feature_registry.leases import Subject
from feature_registry.registry import Registry


def group(name: str, *, lake: str, registry: Registry) -> Subject:
    """The rows and the history of all generations of a group, also of one whose first publish is under way, and what people say of it."""

    def tables() -> list[str]:
        known = {each.number for each in registry.generations(name)}
        numbers = sorted(known | {each.generation for each in registry.pending_publishes(name)})
        rows = [place(lake, name, number) for number in numbers for place in (layout.feature_table, layout.history_table)]
        return [*rows, *(layout.records_table(lake, kind) for kind in ("commits", "promotions", "releases"))]

    return Subject(f"group {name}", tables)


def source(name: str, *, lake: str) -> Subject:
    """The rows of a source, or what its newest ingest looked at in place, and the rows that were refused."""
    return Subject(f"source {name}", lambda: (*layout.ingest_logs(lake, name), layout.quarantine_table(lake, name)))


def tiles(tables: Sequence[str]) -> Subject:
    """The tiles of one source, entity and cadence, in their grains; the finest comes first and gives its name."""
    return Subject(f"tiles {tables[0]}", lambda: tables)


def training_set(name: str, *, lake: str) -> Subject:
    """The table of a training set."""
    return Subject(f"training set {name}", lambda: (layout.training_set_table(lake, name),))
