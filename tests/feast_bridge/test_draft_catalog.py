"""The draft that is made of a repository of Feast's: records in, a catalog that holds out; without Feast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feast_bridge import draft_catalog
from feast_bridge.draft_catalog import FeastContents, FeastFunction, FeastJoin, FeastService, FeastSource, FeastView
from feature_definitions import Files, Jdbc, Table
from feature_definitions.check import checked
from feature_definitions.on_demand import compute, of_python, to_python

if TYPE_CHECKING:
    from pathlib import Path

    from feature_definitions.loader import Catalog

SOURCE = FeastSource(
    "Rides DB", "Files('rides.parquet', format='parquet')",
    {"driver_id": ("int64", "driver_id"), "city": ("string", "city"), "speed": ("double", "v"), "rides": ("int64", "rides"),
     "at": ("timestamp", "at"), "made": ("timestamp", "made")},
    ("driver_id", "city"), "at", "made", "Rides of drivers.",
)  # fmt: skip
DRIVER = FeastView("driver_stats", "driver", {"driver_id": "int64"}, "Rides DB", ("speed", "rides"), "2h", tags=("team:a",), owner="x@y.z")
PLACE = FeastView("Place-Stats", "driver_city", {"driver_id": "int64", "city": "string"}, "Rides DB", ("speed",), None, online=False)
PANDAS = FeastFunction(
    "faster", "def faster(inputs):\n    return pd.DataFrame({'twice': inputs['speed'] * 2, 'sum': inputs['speed'] + inputs['more']})\n",
    "faster", "pandas", (("driver_stats", "speed", "double"),), {"more": "double"}, {"twice": "double", "sum": "double"},
    imports=("import pandas as pd",),
)  # fmt: skip
PYTHON = FeastFunction(
    "slower", "def slower(inputs):\n    return {'twice': [value / 2 for value in inputs['driver_stats__speed']]}\n",
    "slower", "python", (("driver_stats", "speed", "double"),), {}, {"twice": "double"},
)  # fmt: skip
SINGLETON = FeastFunction(
    "named", "def named(inputs):\n    return {'label': str(inputs['rides'])}\n",
    "named", "singleton", (("driver_stats", "rides", "int64"),), {}, {"label": "string"},
)  # fmt: skip
SERVICE = FeastService(
    "drivers_v3", (FeastJoin("driver_stats", ("rides",), None, {}), FeastJoin("driver_stats", ("speed",), "Other", {"driver_id": "rival"})),
    (("faster", ("sum",)), ("slower", ("twice",)), ("named", ("label",))),
)  # fmt: skip
OFFLINE = FeastService("places", (FeastJoin("Place-Stats", ("speed",), None, {}),), ())


def contents(**changes: Any) -> FeastContents:
    whole = FeastContents("rides", (SOURCE,), (DRIVER, PLACE), (PANDAS, PYTHON, SINGLETON), (SERVICE, OFFLINE), ("a permission",))
    return whole._replace(**changes)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The draft of everything above, which holds as it is."""
    return held(contents(), tmp_path_factory.mktemp("draft"))


def held(of: FeastContents, folder: Path) -> Catalog:
    (folder / "rides.py").write_text(draft_catalog.text(of))
    return checked(folder)


def test_a_source_keeps_its_columns_names_times_and_what_makes_a_row_unique(catalog: Catalog) -> None:
    source = catalog.sources["rides_db"]
    assert source.at == Files("rides.parquet", format="parquet")
    assert (source.columns.written["speed"].name, source.columns["speed"]) == ("v", "double")
    assert (source.event_timestamp, source.timezone, source.id, source.arrived_at) == ("at", "UTC", ("driver_id", "city", "at"), "made")


def test_a_view_is_a_group_whose_cadence_its_ttl_allows(catalog: Catalog) -> None:
    group = catalog.groups["driver_stats"]
    assert (group.ttl, group.every, group.outputs, group.owner, group.tags) == ("2h", "1h", ("speed", "rides"), "x@y.z", ("team:a",))


def test_a_view_without_ttl_and_of_two_entities_is_a_group_of_a_composite_key_for_ever(catalog: Catalog) -> None:
    group = catalog.groups["place_stats"]
    assert (group.ttl, group.every, group.online) == (draft_catalog.FOREVER, "1d", False)
    assert dict(group.entity.keys) == {"driver_id": "int64", "city": "string"}


def test_a_service_keeps_its_version_its_aliases_and_its_key_maps(catalog: Catalog) -> None:
    service = catalog.services["drivers_v3"]
    assert service.version == 3
    assert [(join.name, dict(join.on)) for join in service.joins] == [("driver_stats", {}), ("other", {"driver_id": "rival"})]


def test_what_functions_read_is_joined_too_and_said(catalog: Catalog) -> None:
    assert catalog.services["drivers_v3"].joins[0].columns == ("rides", "speed")
    assert "# Feast joins driver_stats:speed for the features on demand alone; here it is answered too." in draft_catalog.text(contents())


def test_a_service_of_views_that_are_not_online_is_for_training_alone(catalog: Catalog) -> None:
    assert not catalog.services["places"].online


@pytest.mark.parametrize(
    ("feature", "given", "value"),
    [
        ("sum", ([1.5, None], [2.0, 1.0]), [3.5, None]),
        ("faster_twice", ([1.5, None], [2.0, 1.0]), [3.0, None]),
        ("slower_twice", ([3.0, None],), [1.5, None]),
        ("label", ([7, 8],), ["7", "8"]),
    ],
)
def test_a_function_of_each_mode_gives_what_it_gave(catalog: Catalog, feature: str, given: tuple[list[Any], ...], value: list[Any]) -> None:
    found = catalog.on_demand[feature]
    kinds = ["int64" if feature == "label" else "double"] * len(given)
    columns = [of_python(each, kind) for each, kind in zip(given, kinds, strict=True)]
    assert to_python(compute(found, columns, count=2), found.type) == value


def test_what_is_left_out_stands_above(catalog: Catalog) -> None:
    assert "# Not here: a permission.\n" in draft_catalog.text(contents())
    assert catalog.training_sets == {}


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ("Jdbc('sales.rides', connection='snowflake')", Jdbc("sales.rides", connection="snowflake")),
        ("Jdbc(query='SELECT * FROM rides', connection='redshift')", Jdbc(query="SELECT * FROM rides", connection="redshift")),
        ("Table('db.rides')", Table("db.rides")),
    ],
)
def test_a_table_of_a_database_or_of_spark_is_read_in_place(tmp_path: Path, at: str, place: object) -> None:
    columns = {name: (kind, name) for name, (kind, _) in SOURCE.columns.items()}
    found = held(contents(sources=(SOURCE._replace(at=at, columns=columns),)), tmp_path)
    assert found.sources["rides_db"].at == place


@pytest.mark.parametrize(("ttl", "every"), [(None, "1d"), ("30d", "1d"), ("1d", "1d"), ("23h", "12h"), ("90m", "1h"), ("5m", "5m")])
def test_a_cadence_is_the_longest_that_a_ttl_allows(ttl: str | None, every: str) -> None:
    assert draft_catalog.cadence(ttl) == every


def test_names_become_ours() -> None:
    assert [draft_catalog.plain(name) for name in ("Place-Stats", "a__b", "2nd", "ÜBER x")] == ["place_stats", "a_b", "from_2nd", "ber_x"]
