"""The data source of Feast's views: a group's published rows, which only our offline store reads."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.type_map import pa_to_feast_value_type
from feast.value_type import ValueType

from feast_bridge import projects

TIME, CREATED = "event_timestamp", "created_timestamp"
"""The columns of a group's table that Feast asks a source for."""


class HeadwaterSource(DataSource):  # type: ignore[misc]  # Feast's classes are not followed
    """A group's published rows."""

    def __init__(self, *, name: str, group: str | None = None, **said: Any) -> None:
        """Name the source, and the group if it is called otherwise."""
        super().__init__(**{"timestamp_field": TIME, "created_timestamp_column": CREATED, **said, "name": name})
        self.group = group or name

    def __hash__(self) -> int:
        """As Feast has it: by name and time."""
        return int(super().__hash__())

    def __eq__(self, other: object) -> bool:
        """Equal in all that Feast compares, and of one group."""
        return isinstance(other, HeadwaterSource) and bool(super().__eq__(other)) and self.group == other.group

    def source_type(self) -> Any:
        """A source that is none of Feast's own."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: Any) -> "HeadwaterSource":
        """The source from what lies in Feast's registry."""
        return HeadwaterSource(
            name=data_source.name,
            group=json.loads(data_source.custom_options.configuration)["group"],
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> Any:
        options = DataSourceProto.CustomSourceOptions(configuration=json.dumps({"group": self.group}).encode())
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{__name__}.{type(self).__name__}",
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            custom_options=options,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Raise unless the project has the group."""
        projects.group(projects.of_store(config, config.offline_store), self.group)

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """How Feast understands types of columns: as Arrow's."""
        found: Callable[[str], ValueType] = pa_to_feast_value_type
        return found

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """The columns of the group's table, with Arrow's types."""
        columns = projects.columns(projects.group(projects.of_store(config, config.offline_store), self.group))
        ours = {TIME: self.timestamp_field, CREATED: self.created_timestamp_column}
        return [(ours.get(name) or name, kind) for name, kind in columns]
