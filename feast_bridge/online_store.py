"""Feast's online store over ours: `get_online_features` gives the values, statuses and times that our own server gives."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from feast.feature_view import FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import StrictStr

import headwater as hw
from feast_bridge import projects, refused, value_types
from feast_bridge.offline_store import group_of
from feature_definitions.intervals import parse_instant
from feature_definitions.language import FeatureGroup, FeatureService, Join
from feature_definitions.reading import from_json
from feature_definitions.sql.column_types import types_as_read
from headwater_client.answers import FeatureVector
from headwater_client.direct import DirectClient
from serving.forms import feast_status
from serving.request import MOST_ENTITIES


class HeadwaterOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast's classes are not followed
    """Which project, relative to the repository."""

    type: Literal["feast_bridge.online_store.HeadwaterOnlineStore"] = "feast_bridge.online_store.HeadwaterOnlineStore"
    project: StrictStr = "."


class Answered(NamedTuple):
    """A feature view's answer for one entity: of each feature the value and Feast's status, and the row's time."""

    values: Mapping[str, Value]
    statuses: Mapping[str, str]
    at: datetime | None


class HeadwaterOnlineStore(OnlineStore):  # type: ignore[misc]  # Feast's classes are not followed
    """Feast's online store over a project's: it reads what was synced, and writes nothing."""

    _versioned_read_supported = False

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._clients: dict[str, DirectClient] = {}

    def online_read(
        self, config: RepoConfig, table: FeatureView, entity_keys: Sequence[EntityKey], requested_features: Sequence[str] | None = None
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """The values of entities and the times of their rows; without values where an entity is not known or its values are too old."""
        wanted = [*requested_features] if requested_features else [field.name for field in table.features]
        rows = [dict(zip(each.join_keys, each.entity_values, strict=True)) for each in entity_keys]
        found = self._answered(config, table, rows, wanted)
        return [(each.at, dict(each.values) if _is_known(each) else None) for each in found]

    def _read_features_per_fv(  # noqa: PLR0913  # Feast asks so
        self,
        config: RepoConfig,
        grouped_refs: Iterable[tuple[FeatureView, list[str]]],
        join_key_values: Mapping[str, Sequence[Value]],
        entity_name_to_join_key_map: Mapping[str, str],  # noqa: ARG002
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,  # noqa: FBT001
        include_feature_view_version_metadata: bool,  # noqa: ARG002, FBT001
    ) -> None:
        """Fill Feast's answer, each feature with the status of its own; Feast's own code would say PRESENT or NOT_FOUND alone."""
        projects.of_store(config, config.online_store)
        for table, requested in grouped_refs:
            rows = _rows(table, join_key_values)
            _fill(online_features_response, table, requested, self._answered(config, table, rows, requested), full=full_feature_names)

    async def online_read_async(self, *asked: Any, **named: Any) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """What `online_read` gives, read in a thread of its own."""
        return await asyncio.to_thread(self.online_read, *asked, **named)

    async def _read_features_per_fv_async(self, *asked: Any, **named: Any) -> None:
        """Fill Feast's answer as above, in a thread of its own: with the same statuses."""
        await asyncio.to_thread(self._read_features_per_fv, *asked, **named)

    def online_write_batch(self, config: RepoConfig, table: FeatureView, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Refuse: a sync is Headwater's."""
        raise refused.materializing(table.name)

    def update(self, *_: Any, **__: Any) -> None:
        """Nothing: a sync makes what there is to make."""

    def teardown(self, *_: Any, **__: Any) -> None:
        """Nothing: what lies online is Headwater's."""

    def _answered(
        self, config: RepoConfig, table: FeatureView, rows: Sequence[Mapping[str, Value]], wanted: Sequence[str]
    ) -> list[Answered]:
        p = projects.of_store(config, config.online_store)
        group = projects.group(p, group_of(table.batch_source))
        entities = [{key: value_types.key(row[key], kind) for key, kind in group.entity.keys.items()} for row in rows]
        columns = {new: old for old, new in table.batch_source.field_mapping.items()}
        asked, found = {name: columns.get(name, name) for name in wanted}, list[FeatureVector]()
        for first in range(0, len(entities), MOST_ENTITIES):
            found += self._client(p, group).get_features(group.name, entities[first : first + MOST_ENTITIES]).rows
        return [answered(each, group, asked) for each in found]

    def _client(self, p: hw.Project, group: FeatureGroup) -> DirectClient:
        """A reader of one group; its connection stays open."""
        if group.name not in self._clients:
            service = FeatureService(group.name, joins=(Join(group),), online=group.online)
            self._clients[group.name] = DirectClient([service], url=p.store_url(), project=p.settings.name, clock=p.clock)
        return self._clients[group.name]


def _rows(table: FeatureView, columns: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """The keys of each entity asked for. Feast's own code takes the wrong column where a key has another name and its own is there too."""
    named = {field.name: table.projection.join_key_map.get(field.name, field.name) for field in table.entity_columns}
    missing = [column for column in named.values() if column not in columns]
    if missing:
        raise KeyError(f"{table.name} is asked for without its join key {missing[0]!r}; given are {', '.join(columns)}")
    return [dict(zip(named, values, strict=True)) for values in zip(*[columns[column] for column in named.values()], strict=True)]


def answered(found: FeatureVector, group: FeatureGroup, asked: Mapping[str, str]) -> Answered:
    """What our reader says of an entity, in Feast's words; `asked` are the group's columns by the names of features."""
    kinds, said, at = types_as_read(group), found.status[group.name], found.event_timestamp[group.name]
    values = {name: found.values[f"{group.name}__{column}"] for name, column in asked.items()}
    return Answered(
        {name: value_types.proto(from_json(value, kinds[asked[name]]), kinds[asked[name]]) for name, value in values.items()},
        {name: feast_status(value, said) for name, value in values.items()},
        None if at is None else parse_instant(at),
    )


def _is_known(found: Answered) -> bool:
    return not set(found.statuses.values()) <= {"NOT_FOUND", "OUTSIDE_MAX_AGE"}


def _fill(
    response: GetOnlineFeaturesResponse, table: FeatureView, requested: Sequence[str], found: Sequence[Answered], *, full: bool
) -> None:
    """Add a feature view's features to an answer."""
    name, times = table.projection.name_to_use(), [_timestamp(each.at) for each in found]
    response.metadata.feature_names.val.extend(f"{name}__{feature}" if full else feature for feature in requested)
    for feature in requested:
        response.results.append(
            GetOnlineFeaturesResponse.FeatureVector(
                values=[each.values[feature] for each in found],
                statuses=[FieldStatus.Value(each.statuses[feature]) for each in found],
                event_timestamps=times,
            )
        )


def _timestamp(at: datetime | None) -> Timestamp:
    found = Timestamp()
    if at is not None:
        found.FromDatetime(at.astimezone(UTC).replace(tzinfo=None))
    return found
