"""The first draft of a new feature group and of its test, from a catalog's source and an entity that its rows tell about."""

import ast
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import feature_definitions
from feature_definitions.language import DefinitionError, Entity, Source
from feature_definitions.language.rules import NAME, check_name
from feature_definitions.loader import Catalog, Place

_VALUES = {
    "string": '["a"]',
    "int64": "[7]",
    "double": "[7.0]",
    "boolean": "[True]",
    "date": "[date(2026, 1, 5)]",
    "timestamp": "[datetime(2026, 1, 5, 10, tzinfo=UTC)]",
}


class DraftRefused(DefinitionError):
    """A group or a source that cannot be drafted: the message says what to name instead."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The two files of a new group: where they go, and what stands in them."""

    group_file: Path
    group: str
    test_file: Path
    test: str


def draft(name: str, catalog: Catalog, *, folder: Path, root: Path, source: str | None = None) -> Draft:
    """A group of a source's events by day, beside the source in the catalog's `folder`, and a test of it in the tests of `root`.

    Without `source` the catalog's only one with events is meant.
    """
    check_name("group", name)
    if name in (*catalog.groups, *catalog.transforms):
        raise DraftRefused(f"there is a group {name!r} already, in {catalog.origins['group', name].file}; name the new one differently")
    chosen = _source(catalog, source)
    entity = _entity(catalog, chosen)
    places = {what: catalog.origin_of(*what) for what in (("entity", entity.name), ("source", chosen.name))}
    variables = {what: _variable(place) for what, place in places.items()}
    file = places["source", chosen.name].file.parent / f"{name}.py"
    imports = _imports({what: (place.file, variables[what]) for what, place in places.items()}, file)
    number = next((c for c, kind in chosen.columns.items() if kind in ("double", "int64") and _is_feature(c, entity)), None)
    group = _group(name, [variables["entity", entity.name], variables["source", chosen.name]], imports, number)
    test_file = _tests(folder, root) / file.parent.relative_to(folder) / f"test_{name}.py"
    return Draft(file, group, test_file, _test(name, chosen, number, os.path.relpath(folder, test_file.parent)))


def write(made: Draft) -> None:
    """Write both files; refused if one of them is there, and then nothing is written."""
    told = "{} is there already; nothing was written. Name the new group differently, or move the file away"
    there = next((file for file in (made.group_file, made.test_file) if file.exists()), None)
    if there is not None:
        raise DraftRefused(told.format(there))
    for file, text in ((made.group_file, made.group), (made.test_file, made.test)):
        write_new(file, text, told.format(file))


def write_new(file: Path, text: str, told: str) -> None:
    """Write a file of a draft; refused, as is told, if it is there, though somebody may have written it just now."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise DraftRefused(told) from None


def _source(catalog: Catalog, name: str | None) -> Source:
    events = {n: s for n, s in catalog.sources.items() if s.shape == "events" and any(_tells(s, e) for e in catalog.entities.values())}
    listed = ", ".join(events) or "none"
    if name is None:
        if len(events) != 1:
            raise DraftRefused(f"name the source that the group reads, like --source {next(iter(events), 'payments')}; there are {listed}")
        return next(iter(events.values()))
    if name not in events:
        close = get_close_matches(name, events, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DraftRefused(f"there is no source {name!r} with events and the keys of an entity.{hint} There are: {listed}")
    return events[name]


def _entity(catalog: Catalog, source: Source) -> Entity:
    return next(entity for entity in catalog.entities.values() if _tells(source, entity))


def _tells(source: Source, entity: Entity) -> bool:
    """Whether a source's rows have the keys of an entity."""
    return all(source.columns.get(key) == kind for key, kind in entity.keys.items())


def _is_feature(column: str, entity: Entity) -> bool:
    return column not in entity.keys and NAME.fullmatch(column) is not None and "__" not in column and column != "events"


def _variable(place: Place) -> str:
    """The name that a file gives a definition."""
    for node in ast.parse(place.file.read_text(encoding="utf-8")).body:
        inside = node.lineno <= place.line <= (node.end_lineno or node.lineno)
        if inside and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return node.targets[0].id
    raise DraftRefused(f"{place.file}:{place.line} gives its definition no name of its own; write it as a line like payments = Source(...)")


def _imports(found: dict[tuple[str, str], tuple[Path, str]], file: Path) -> str:
    names: dict[Path, list[str]] = {}
    for origin, variable in found.values():
        names.setdefault(origin, []).append(variable)
    return "\n".join(f"from {_relative(origin, file)} import {', '.join(sorted(some))}" for origin, some in names.items())


def _relative(origin: Path, file: Path) -> str:
    """How a file imports another of the catalog."""
    parts = Path(os.path.relpath(origin.with_suffix(""), file.parent)).parts
    up = sum(part == ".." for part in parts)
    return "." * (up + 1) + ".".join(part for part in parts if part not in ("..", "__init__"))


def _tests(folder: Path, root: Path) -> Path:
    """Where the tests of a catalog lie: in its project, those of our own catalog with ours."""
    ours = Path(feature_definitions.__file__).resolve().parent
    return ours.parent / "tests" / ours.name / "catalog" if folder.resolve().is_relative_to(ours) else root / "tests"


def _group(name: str, variables: list[str], imports: str, number: str | None) -> str:
    summed = "" if number is None else f'\n        Feature("{number}", "sum", "{number}", windows=("1d", "7d")),'
    return f'''"""What {name} says: write it in one sentence."""

from feature_definitions import Feature, WindowedGroup

{imports}

{name} = WindowedGroup(
    "{name}", {", ".join(variables)}, every="1d", ttl="2d",
    features=(
        Feature("events", "count", windows=("1d", "7d")),{summed}
    ),
)  # fmt: skip
'''


def _test(name: str, source: Source, number: str | None, catalog: str) -> str:
    times = sorted({"UTC", "datetime", *(["date"] if "date" in source.columns.values() else [])})
    columns = "".join(f"            {column!r}: {_value(kind)},\n" for column, kind in source.columns.items()).replace("'", '"')
    summed = "" if number is None else f'\n    assert row["{number}_7d"] == 7'
    return f'''"""{name}, on one row written by hand."""

from datetime import {", ".join(times)}
from pathlib import Path

import pandas as pd

import headwater as hw

CATALOG = Path(__file__).parent / "{catalog}"
NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def test_{name}_holds_the_events_of_its_windows(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(f\'[project]\\nname = "test"\\ncatalog = "{{CATALOG.resolve()}}"\\n\')
    with hw.open(tmp_path, clock=lambda: NOON) as p:
        p.write("{source.name}", pd.DataFrame({{
{columns}        }}))  # fmt: skip
        p.materialize("{name}")
        (row,) = p.read("{name}").to_dict("records")
    assert row["events_1d"] == row["events_7d"] == 1{summed}
'''


def _value(kind: str) -> str:
    return _VALUES.get(kind, "[7]")
