"""An online store for Feast's universal tests: what they write goes through a Headwater project, what they read is ours.

Only tests write so: it is how Feast's tests bring rows online, which Headwater itself computes and syncs.
"""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from feast.type_map import feast_value_type_to_python_type
from headwater_repo_config import LAKES
from pydantic import StrictStr

from feast_bridge import online_store, projects
from feast_bridge.data_source import HeadwaterSource
from feast_bridge.online_store import HeadwaterOnlineStore, HeadwaterOnlineStoreConfig


class WritingOnlineStoreConfig(HeadwaterOnlineStoreConfig):
    """The settings of the store."""

    type: Literal["writing.WritingOnlineStore"] = "writing.WritingOnlineStore"
    project: StrictStr = "."


class WritingOnlineStore(HeadwaterOnlineStore):
    """Reads as ours does; each view that is written to becomes a source and a group."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, str] = {}
        self.written: dict[str, list[dict[str, Any]]] = {}

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Any) -> None:
        rows = self.written.setdefault(table.name, [])
        for key, values, at, created in data:
            keys = dict(zip(key.join_keys, map(feast_value_type_to_python_type, key.entity_values), strict=True))
            found = {name: feast_value_type_to_python_type(value) for name, value in values.items()}
            rows.append({**keys, **found, "at": at, "created_at": created or at})
        frame = pd.DataFrame(rows)
        lake, keys = LAKES[config.online_store.project], tuple(rows[0])[: len(data[0][0].join_keys)]
        self.groups[table.name] = lake.grow(frame, keys, "at", "created_at")
        projects.OPENED[lake.folder.resolve()].sync(self.groups[table.name])
        if progress:
            progress(len(rows))

    def update(self, config: Any, tables_to_delete: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002  # Feast asks so
        """Forget what was written to views that are taken from Feast, as if their groups had gone from the catalog."""
        for table in tables_to_delete:
            self.groups.pop(table.name, None)
            self.written.pop(table.name, None)

    def _answered(self, config: Any, table: Any, rows: Any, wanted: Any) -> Any:
        if table.name not in self.groups:
            nothing = dict.fromkeys(wanted, online_store.Value()), dict.fromkeys(wanted, "NOT_FOUND"), None
            return [online_store.Answered(*nothing) for _ in rows]
        named = HeadwaterSource(name=table.name, group=self.groups[table.name])
        return super()._answered(config, _with(table, batch_source=named), rows, wanted)


class _with:  # noqa: N801  # it reads as a word
    """Something as it is, but for some attributes."""

    def __init__(self, of: Any, **others: Any) -> None:
        self.__dict__.update(others, _of=of)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)
