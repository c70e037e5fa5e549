"""Feast's provider for our stores: everything goes on to them, but nothing is materialized."""

from typing import Any

from feast.infra.passthrough_provider import PassthroughProvider

from feast_bridge import refused


class HeadwaterProvider(PassthroughProvider):  # type: ignore[misc]  # Feast's classes are not followed
    """Feast's own provider without its materialize."""

    def materialize_single_feature_view(self, config: Any, feature_view: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002  # Feast asks so
        """Refuse: a sync is Headwater's."""
        raise refused.materializing(feature_view.name)
