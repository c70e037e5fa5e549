"""What is put aside of sources and groups, read without Spark, and written to a file that a person names."""

import csv
import json
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from feature_definitions.errors import InputRefused
from feature_definitions.language import FeatureGroup, Source
from feature_definitions.records import LedgerEntry
from headwater.documents import as_text
from lake import quarantine
from lake.quarantine import PutAside

if TYPE_CHECKING:
    from feature_registry.registry import Registry

ENDINGS = (".csv", ".jsonl", ".parquet")


class Counted(NamedTuple):
    """How many rows are put aside, and how many intervals of a group."""

    rows: int
    intervals: int

    @property
    def any(self) -> bool:
        """Whether anything is."""
        return self.rows > 0 or self.intervals > 0


class Retried(NamedTuple):
    """What was put aside of a source or a group before and after all of it was judged again, or why it was not (`failed`)."""

    name: str
    before: Counted
    after: Counted
    failed: str | None = None


def of_source(source: Source, *, lake: str, registry: "Registry") -> tuple[PutAside, ...]:
    """What is put aside of a source, by reason."""
    return quarantine.of_source(source.name, lake=lake, files=registry.files(source.name))


def of_group(group: FeatureGroup, *, lake: str, registry: "Registry") -> tuple[PutAside, ...]:
    """What is put aside of a group's newest generation, by the expectations that failed."""
    return quarantine.of_group(group.name, lake=lake, ledger=_ledger(group, registry))


def intervals_of(group: FeatureGroup, *, lake: str, registry: "Registry") -> set[datetime]:
    """The starts of the intervals of which rows are put aside, or that are rejected without any that is to blame."""
    return quarantine.intervals_of(group.name, lake=lake, ledger=_ledger(group, registry))


def rows_of(named: Source | FeatureGroup, *, lake: str, registry: "Registry") -> list[dict[str, Any]]:
    """All rows of a source or a group that are put aside."""
    if isinstance(named, Source):
        return quarantine.all_rows(named.name, lake=lake, files=registry.files(named.name))
    return quarantine.current_rows(named.name, lake=lake, ledger=_ledger(named, registry))


def count(found: Iterable[PutAside], name: str) -> Counted:
    """How many rows of a source or a group are put aside, and how many intervals of a group."""
    mine = [each for each in found if each.name == name]
    return Counted(sum(each.rows for each in mine), sum(each.intervals or 0 for each in mine))


def _ledger(group: FeatureGroup, registry: "Registry") -> Collection[LedgerEntry]:
    newest = max((generation.number for generation in registry.generations(group.name)), default=1)
    return registry.ledger(group.name, newest).values()


def named(path: str | os.PathLike[str]) -> Path:
    """The file that a person names; raises InputRefused for an ending that says no format that rows can be written in."""
    file = Path(path)
    if file.suffix not in ENDINGS:
        raise InputRefused(f"{file} says by its ending no format that rows can be written in; write a name that ends in {_either(ENDINGS)}")
    return file


def export(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write rows to a file, in the format of its ending; returns how many."""
    listed = list(rows)
    names = list(dict.fromkeys(name for row in listed for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows({name: None if value is None else as_text(value) for name, value in row.items()} for row in listed)
        case ".jsonl":
            lines = (json.dumps(dict(row), default=as_text, ensure_ascii=False) + "\n" for row in listed)
            path.write_text("".join(lines), encoding="utf-8")
        case _:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist([dict(row) for row in listed]), path)
    return len(listed)


def _either(endings: tuple[str, ...]) -> str:
    return ", ".join(endings[:-1]) + f" or {endings[-1]}"
