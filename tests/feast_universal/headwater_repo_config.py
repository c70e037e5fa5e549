"""What Feast's own universal tests are told of our stores: each of their frames becomes a source and a group of a Headwater project.

Feast finds it by FULL_REPO_CONFIGS_MODULE; `run.py` beside it runs them. Maps, structs and JSON are texts here, as in Feast's own
creators for BigQuery and Snowflake.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from tests.universal.feature_repos.universal.data_source_creator import DataSourceCreator
from tests.universal.feature_repos.universal.online_store_creator import OnlineStoreCreator

import headwater as hw
from feast_bridge import projects
from feast_bridge.data_source import HeadwaterSource
from feast_bridge.offline_store import HeadwaterOfflineStoreConfig

ENTITIES = ("driver_id", "customer_id", "location_id", "entity_id")
"""The join keys of Feast's tests."""
KEYS_OF = {"orders": ("customer_id", "driver_id")}
DUMMY = "__dummy_id"
LAKES: dict[str, Lake] = {}
"""The projects of this process, by their folders."""

os.environ["FEAST_IS_LOCAL_TEST"] = "False"  # it kept stores in clouds from being imported; some tests end at once where it is true


def later() -> datetime:
    """All days of the tests are over."""
    return datetime.now(UTC) + timedelta(days=3)


class Lake:
    """A project that grows by a source and a group with each frame."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="headwater-universal-"))
        (self.folder / "catalog").mkdir()
        (self.folder / "headwater.toml").write_text('[project]\nname = "universal"\n')
        (self.folder / "catalog" / "nobody.py").write_text(
            'from feature_definitions import Entity\n\nnobody = Entity("nobody", keys={"nobody": "int64"})\n'
        )
        self.number = 0
        LAKES[str(self.folder)] = self
        atexit.register(self.down)

    def down(self) -> None:
        project = projects.OPENED.pop(self.folder.resolve(), None)
        if project is not None:
            project.down()

    def grow(self, frame: pd.DataFrame, keys: tuple[str, ...], at: str, created: str | None) -> str:
        """Publish a frame's rows as a group's; its name."""
        self.number += 1
        name = f"g{self.number}"
        rows = tidy(frame)
        if not keys:
            keys, rows = (DUMMY,), rows.assign(**{DUMMY: ""})
        types = {column: data_type(rows[column]) for column in rows.columns}
        features = tuple(column for column in rows.columns if column not in (*keys, at, created))
        entity = f"{name}_entity"
        text = f"""
from feature_definitions import Entity, ObservationGroup, Source

entity = Entity({entity!r}, keys={ {key: types[key] for key in keys}!r})
source = Source("{name}_rows", columns={types!r}, event_timestamp={at!r}, timezone="UTC", id={(*keys, at)!r}, arrived_at={created!r})
group = ObservationGroup({name!r}, entity, source, columns={features!r}, ttl="3650d", every="1h")
"""
        (self.folder / "catalog" / f"{name}.py").write_text(text)
        project = projects.OPENED[self.folder.resolve()] = hw.open(self.folder, clock=later)
        project.write(f"{name}_rows", rows)
        project.materialize(name)
        return name


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame in types that we have."""
    rows = frame.copy()
    for column in rows.columns:
        kept = rows[column].dropna()
        first = kept.iloc[0] if len(kept) else None
        if pd.api.types.is_datetime64_any_dtype(rows[column]) or isinstance(first, datetime):
            rows[column] = pd.to_datetime(rows[column], utc=True).dt.floor("us").astype("datetime64[us, UTC]")
        elif _is_list(first):
            rows[column] = rows[column].map(lambda values: [*map(_aware, values)] if _is_list(values) else None)
        elif isinstance(first, dict):
            rows[column] = rows[column].map(lambda value: None if value is None else str(value))
        elif pd.api.types.is_float_dtype(rows[column]):
            rows[column] = rows[column].astype("float64")
        elif pd.api.types.is_integer_dtype(rows[column]):
            rows[column] = rows[column].astype("int64")
    return rows


def _is_list(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | dict)


def _aware(value: Any) -> Any:
    """A value of a list; a time without a zone is one of UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def data_type(column: pd.Series) -> str:
    """The type of a column that `tidy` made."""
    kept = column.dropna()
    first = kept.iloc[0] if len(kept) else None
    if _is_list(first):
        return f"array<{data_type(pd.Series([value for each in kept for value in each]))}>"
    if pd.api.types.is_bool_dtype(column) or isinstance(first, bool):
        return "boolean"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "timestamp"
    if pd.api.types.is_float_dtype(column):
        return "double"
    return "int64" if pd.api.types.is_integer_dtype(column) else "string"


class HeadwaterDataSourceCreator(DataSourceCreator):
    """Makes sources of Feast's from frames: a project for each environment."""

    def __init__(self, project_name: str, *_: Any, **__: Any) -> None:
        super().__init__(project_name)
        self.lake = Lake()

    def create_data_source(
        self, df: pd.DataFrame, destination_name: str, created_timestamp_column: str | None = "created_ts",
        field_mapping: dict[str, str] | None = None, timestamp_field: str | None = "ts",
    ) -> HeadwaterSource:  # fmt: skip
        field_mapping = field_mapping or {}
        named = {old: new for old, new in field_mapping.items() if new in ENTITIES}
        df, field_mapping = df.rename(columns=named), {old: new for old, new in field_mapping.items() if old not in named}
        back = {new: old for old, new in (field_mapping or {"ts_1": "ts"}).items()}
        at = timestamp_field if timestamp_field in df.columns else back.get(str(timestamp_field), str(timestamp_field))
        created = created_timestamp_column if created_timestamp_column in df.columns else None
        keys = KEYS_OF.get(destination_name) or tuple(key for key in ENTITIES if key in df.columns)
        group = self.lake.grow(df, keys, at, created)
        source = HeadwaterSource(
            name=f"{destination_name}_{group}", group=group, timestamp_field=at, created_timestamp_column=created or "",
            field_mapping={old: new for old, new in (field_mapping or {}).items() if old in df.columns},
        )  # fmt: skip
        source.table = f"{group}_rows"  # by which Feast's tests ask for a query of it
        return source

    def create_offline_store_config(self) -> HeadwaterOfflineStoreConfig:
        return HeadwaterOfflineStoreConfig(project=str(self.lake.folder), mode="event_time")

    def create_saved_dataset_destination(self) -> SavedDatasetFileStorage:
        return SavedDatasetFileStorage(path=tempfile.mkdtemp())

    def create_logged_features_destination(self) -> FileLoggingDestination:
        return FileLoggingDestination(path=tempfile.mkdtemp())

    def teardown(self) -> None:
        self.lake.down()


class HeadwaterOnlineStoreCreator(OnlineStoreCreator):
    """Makes online stores whose writes go through a Headwater project."""

    def __init__(self, project_name: str, **_: Any) -> None:
        super().__init__(project_name)
        self.lake = Lake()

    def create_online_store(self) -> dict[str, Any]:
        return {"type": "writing.WritingOnlineStore", "project": str(self.lake.folder)}

    def teardown(self) -> None:
        self.lake.down()


AVAILABLE_OFFLINE_STORES = [("local", HeadwaterDataSourceCreator)]


class Standing(dict[str, Any]):
    """One online store under several names, since some of Feast's tests name the stores that they run on; all others run on it once."""

    def values(self) -> Any:
        """Each store once."""
        return [next(iter(super().values()))]


_ONLINE = ({"type": "headwater"}, HeadwaterOnlineStoreCreator)
AVAILABLE_ONLINE_STORES = Standing(dict.fromkeys(("headwater", "redis", "sqlite"), _ONLINE))
