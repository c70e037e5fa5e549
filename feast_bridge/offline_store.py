"""Feast's offline store over our point-in-time join: `get_historical_features` gives the rows that a training set would have."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import assert_expected_columns_in_entity_df, infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.types import Float32, Int32
from feast.utils import _get_requested_on_demand_feature_views, _parse_feature_ref
from pydantic import StrictStr

import headwater as hw
from feast_bridge import called, objects, projects, refused
from feast_bridge.data_source import HeadwaterSource
from feast_bridge.refused import FeastRefused
from feature_definitions.language import FeatureGroup, FeatureService, Join, Mode
from feature_definitions.sql import queries
from lake.arrow_types import arrow_type

TIME = "event_timestamp"
FOREVER = "36500d"
"""The TTL of a view of Feast's that has none."""
_NARROW = {Float32: pa.float32(), Int32: pa.int32()}


class HeadwaterOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast's classes are not followed
    """Which project, relative to the repository, and how time is read there (`mode`, as a training set's)."""

    type: Literal["feast_bridge.offline_store.HeadwaterOfflineStore"] = "feast_bridge.offline_store.HeadwaterOfflineStore"
    project: StrictStr = "."
    mode: Mode = "as_known"


class ViewAsked(NamedTuple):
    """What is asked of a feature view: its name in this request, the join, and of each feature the column of the join's group.

    `narrow` are the types of features that Feast has in fewer bits than we have.
    """

    name: str
    join: Join
    features: Mapping[str, str]
    narrow: Mapping[str, pa.DataType] = MappingProxyType({})

    def column(self, feature: str) -> str:
        """Where a feature lies in the joined rows."""
        return f"{self.join.name}__{self.features[feature]}"


class FunctionAsked(NamedTuple):
    """A feature of ours that is computed on demand: the name that its column gets, and of which project, service and feature it is."""

    output: str
    project: str
    service: str
    feature: str
    inputs: Mapping[str, tuple[str, str]]


class HeadwaterRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast's classes are not followed
    """Rows that are joined when they are asked for, once."""

    def __init__(
        self, join: Callable[[], pa.Table], *, full: bool, views: Sequence[OnDemandFeatureView], metadata: RetrievalMetadata
    ) -> None:
        """Remember what is to be done."""
        self._join, self._full, self._views, self._metadata = join, full, [*views], metadata
        self._joined: pa.Table | None = None

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are named by view and feature."""
        return self._full

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """What Feast itself computes: views that are not of ours."""
        return self._views

    @property
    def metadata(self) -> RetrievalMetadata:
        """What was asked for."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002  # Feast asks so
        if self._joined is None:
            self._joined = self._join()
        return self._joined

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> None:  # noqa: ARG002, FBT001, FBT002
        """Refuse: Headwater keeps training sets, with what they rest on."""
        raise FeastRefused(
            "Headwater keeps what was joined as a training set, with its manifest; run instead: "
            "headwater training-set --spine PATH --service SERVICE"
        )


class HeadwaterOfflineStore(OfflineStore):  # type: ignore[misc]  # Feast's classes are not followed
    """Feast's offline store over a project: it reads what was published, and writes nothing."""

    @staticmethod
    def get_historical_features(  # noqa: PLR0913  # Feast asks so
        config: RepoConfig,
        feature_views: Sequence[FeatureView],
        feature_refs: Sequence[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002
        **_: Any,
    ) -> RetrievalJob:
        """The features of an `entity_df`, whose rows are no events of ours: a row of features counts from its own time on (T <= t).

        Of a query of sources (a text) the rows may be such events, and those of the same source count after their time.
        """
        p = projects.of_store(config, config.offline_store)
        asked = views_asked(feature_views, feature_refs, p)
        views = _get_requested_on_demand_feature_views([*feature_refs], project, registry)
        ours = functions_asked([each for each in views if objects.is_ours(each)], feature_refs, full=full_feature_names, project=p)
        outputs = _outputs(asked, feature_refs, full=full_feature_names)
        mode: Mode = config.offline_store.mode
        if entity_df is None:
            raise FeastRefused(
                "features are joined to rows with keys and times: give an entity_df; the rows of a group are read by "
                "headwater.open().read(group)"
            )
        keys = [*(key for each in asked for key in each.join.keys), *(name for view in views for name in view.get_request_data_schema())]

        def joined() -> pa.Table:
            rows, found = _joined(p, entity_df, asked, mode)
            return with_features(rows, found, outputs, ours, asked)

        foreign = [each for each in views if not objects.is_ours(each)]
        return HeadwaterRetrievalJob(
            joined,
            full=full_feature_names,
            views=foreign,
            metadata=RetrievalMetadata([*feature_refs], [*dict.fromkeys(keys)], *_bounds(entity_df)),
        )

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0913  # Feast asks so
        config: RepoConfig,
        data_source: Any,
        join_key_columns: Sequence[str],
        feature_name_columns: Sequence[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """The rows of a group that were published, in their newest correction."""
        p, group = projects.of_store(config, config.offline_store), group_of(data_source)
        columns = [
            *join_key_columns,
            *feature_name_columns,
            timestamp_field,
            *([created_timestamp_column] if created_timestamp_column else []),
        ]

        def pulled() -> pa.Table:
            rows = p.read(group)
            rows = rows[~rows["held"].fillna(value=False).astype(bool)]
            at = rows[timestamp_field]
            if start_date is not None:
                rows = rows[at >= _aware(start_date)]
            if end_date is not None:
                rows = rows[rows[timestamp_field] <= _aware(end_date)]
            return pa.Table.from_pandas(rows[[*dict.fromkeys(columns)]], preserve_index=False)

        metadata = RetrievalMetadata([*feature_name_columns], [*join_key_columns], start_date, end_date)
        return HeadwaterRetrievalJob(pulled, full=False, views=(), metadata=metadata)

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, data_source: Any, *_: Any, **__: Any) -> RetrievalJob:  # noqa: ARG004
        """Refuse: only Feast's materialize asks for it."""
        raise refused.materializing(group_of(data_source))

    @staticmethod
    def write_logged_features(*_: Any, **__: Any) -> None:
        """Refuse: what is served is counted by the server."""
        raise FeastRefused("Headwater keeps no logs of features for Feast; its server counts what it answers: GET /metrics")

    @staticmethod
    def offline_write_batch(config: RepoConfig, feature_view: FeatureView, *_: Any, **__: Any) -> None:  # noqa: ARG004
        """Refuse: rows are computed and published."""
        raise refused.writing(feature_view.name)


# ---------------------------------------------------------------------------------------------------------------- what is asked


def views_asked(views: Iterable[FeatureView], refs: Iterable[str], p: hw.Project) -> list[ViewAsked]:
    """What is asked of each view, as a join of its group under a name that nothing else has."""
    wanted: dict[str, list[str]] = {}
    for ref in refs:
        view, _, feature = _parse_feature_ref(ref)
        wanted.setdefault(view, []).append(feature)
    found = []
    for number, view in enumerate(views):
        name = view.projection.name_to_use()
        group, columns = _group_asked(view, p), {new: old for old, new in view.batch_source.field_mapping.items()}
        features = {feature: columns.get(feature, feature) for feature in dict.fromkeys(wanted.get(name, ()))}
        if not features:
            continue
        on = {key: view.projection.join_key_map.get(key, key) for key in group.entity.keys}
        narrow = {field.name: _NARROW[field.dtype] for field in view.features if field.dtype in _NARROW}
        found.append(ViewAsked(name, Join(group, tuple(dict.fromkeys(features.values())), prefix=f"v{number}", on=on), features, narrow))
    return found


def _group_asked(view: FeatureView, p: hw.Project) -> FeatureGroup:
    """The group that a view stands for. A view that was not told by us has a TTL of its own."""
    group = projects.group(p, group_of(view.batch_source))
    if objects.is_ours(view):
        return group
    return replace(group, ttl=f"{int(view.ttl.total_seconds())}s" if view.ttl else FOREVER)


def functions_asked(views: Iterable[OnDemandFeatureView], refs: Iterable[str], *, full: bool, project: hw.Project) -> list[FunctionAsked]:
    """The features of ours that are computed on demand, each with the views and columns that its inputs come from."""
    asked = dict.fromkeys((view, feature) for view, _, feature in map(_parse_feature_ref, refs))
    found = []
    for view in views:
        name, tags = view.projection.name_to_use(), view.tags
        inputs = {f"{of}__{column}": (of, column) for of, _, column in (each.partition(":") for each in tags["headwater.reads"].split())}
        service, feature = tags["headwater.service"], tags["headwater.feature"]
        if (name, feature) in asked:
            output = f"{name}__{feature}" if full else feature
            found.append(FunctionAsked(output, project.settings.name, service, feature, inputs))
    return found


def _outputs(asked: Sequence[ViewAsked], refs: Iterable[str], *, full: bool) -> dict[str, tuple[str, pa.DataType | None]]:
    """The name of each feature's column in the answer, where it lies in the joined rows, and its type if that is another."""
    by_name = {each.name: each for each in asked}
    parsed = ((by_name[view], feature) for view, _, feature in map(_parse_feature_ref, refs) if view in by_name)
    return {f"{of.name}__{feature}" if full else feature: (of.column(feature), of.narrow.get(feature)) for of, feature in parsed}


def group_of(source: Any) -> str:
    """The group that a source of Feast's stands for; refused if it is none of ours."""
    if not isinstance(source, HeadwaterSource):
        raise FeastRefused(
            f"the source {getattr(source, 'name', source)!r} is none of Headwater's, whose offline store reads groups; tell Feast of them: "
            "headwater feast apply"
        )
    return source.group


# ------------------------------------------------------------------------------------------------------------------- the rows


def with_features(
    rows: pa.Table,
    joined: pa.Table,
    outputs: Mapping[str, tuple[str, pa.DataType | None]],
    ours: Sequence[FunctionAsked],
    asked: Sequence[ViewAsked],
) -> pa.Table:
    """The entity_df's rows with the features asked for, those last that are computed on demand."""
    by_name = {each.name: each for each in asked}
    for output, (column, narrow) in outputs.items():
        found = joined.column(column)
        rows = rows.append_column(output, found if narrow is None else found.cast(narrow, safe=not pa.types.is_floating(narrow)))
    for each in ours:
        inputs = {name: joined.column(by_name[view].column(column)) for name, (view, column) in each.inputs.items()}
        given = {name: rows.column(name) for name in rows.column_names} | inputs
        value = called.of_arrow(given, project=each.project, service=each.service, feature=each.feature)
        rows = rows.append_column(each.output, value)
    return rows


def _joined(p: hw.Project, entity_df: pd.DataFrame | str, asked: Sequence[ViewAsked], mode: Mode) -> tuple[pa.Table, pa.Table]:
    """The rows of the entity_df as they are, and what was joined to them, row by row."""
    if not asked and not isinstance(entity_df, str):
        rows = pa.Table.from_pandas(entity_df, preserve_index=False)
        return rows, rows
    service = FeatureService("of_feast", joins=tuple(each.join for each in asked), online=False)
    same_ttls = _of_one_ttl(service.joins)
    if isinstance(entity_df, str):
        if len(same_ttls) > 1:
            raise FeastRefused("two feature views read one group with TTLs of their own, which a query is not joined with; give a frame")
        found = p.features(p.spine_query(_with_dummy(entity_df, service)), service, mode=mode)
        return found.drop_columns([*service.outputs, *({DUMMY_ENTITY_ID} & {*found.column_names})]), found
    rows = pa.Table.from_pandas(entity_df, preserve_index=False)
    spine, found = _spine(entity_df, rows, service), rows.select([])
    for part in same_ttls:
        some = replace(service, joins=tuple(part))
        joined = p.features(spine, some, mode=mode, spine_is="of others")
        for name in some.outputs:
            found = found.append_column(name, joined.column(name))
    return rows, found


def _of_one_ttl(joins: Iterable[Join]) -> list[list[Join]]:
    """Joins in parts, in none of which one group has two TTLs: a join reads a group once."""
    parts: list[dict[str, list[Join]]] = []
    for each in joins:
        same = (part for part in parts if all(other.group == each.group for other in part.get(each.group.name, ())))
        part = next(same, None)
        if part is None:
            parts.append(part := {})
        part.setdefault(each.group.name, []).append(each)
    return [[join for some in part.values() for join in some] for part in parts]


def _with_dummy(sql: str, service: FeatureService) -> str:
    """A query that gives the key of what Feast calls a view without entities, too, if that is asked for."""
    if DUMMY_ENTITY_ID not in service.keys:
        return sql
    columns = ", ".join(f"`{name}`" for name in queries.parse_query(sql).named_selects)
    return f"SELECT {columns}, '{DUMMY_ENTITY_VAL}' AS {DUMMY_ENTITY_ID} FROM ({sql}) AS entity_df"


def _spine(entity_df: pd.DataFrame, rows: pa.Table, service: FeatureService) -> pa.Table:
    """The columns of an entity_df that are joined by, in the types that a spine has."""
    schema: dict[str, np.dtype[Any]] = dict(zip(entity_df.columns, entity_df.dtypes, strict=True))
    time = infer_event_timestamp_from_entity_df(schema)
    assert_expected_columns_in_entity_df(schema, {*service.keys}, time)
    if DUMMY_ENTITY_ID in service.keys:  # what Feast calls a view without entities
        rows = rows.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * rows.num_rows, pa.string()))
    missing = [key for key in service.keys if key not in rows.column_names]
    if missing:
        raise FeastRefused(f"the entity_df has no column {missing[0]!r}, a join key. It has: {', '.join(rows.column_names)}")
    columns = {key: _cast(rows.column(key), key, kind) for key, kind in service.keys.items()}
    at = pa.array(pd.to_datetime(entity_df[time], utc=True).dt.floor("us").astype("datetime64[us, UTC]"))
    return pa.table({**columns, TIME: at})


def _cast(column: pa.ChunkedArray, name: str, kind: str) -> pa.ChunkedArray:
    try:
        return column.cast(arrow_type(kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FeastRefused(f"the entity_df's {name!r} is a {column.type}; as a join key it is {kind}: {error}") from None


def _bounds(entity_df: pd.DataFrame | str) -> tuple[datetime | None, datetime | None]:
    if isinstance(entity_df, str) or not len(entity_df):
        return None, None
    time = infer_event_timestamp_from_entity_df(dict(zip(entity_df.columns, entity_df.dtypes, strict=True)))
    found = pd.to_datetime(entity_df[time], utc=True)
    return found.min().to_pydatetime(), found.max().to_pydatetime()


def _aware(at: datetime) -> pd.Timestamp:
    found = pd.Timestamp(at)
    return found.tz_localize("UTC") if found.tzinfo is None else found.tz_convert("UTC")
