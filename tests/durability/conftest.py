"""What the tests of durability share: a lake on versitygw and a registry on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests import postgresql, s3


@pytest.fixture
def here(
    request: pytest.FixtureRequest, versitygw: s3.Server, postgresql: postgresql.Server, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The variables of an empty lake and an empty registry, for this process too."""
    name = request.node.path.stem.replace("_", "-")
    lake = f"{versitygw.bucket(name)}/lake"
    registry = {"HEADWATER_REGISTRY_URL": postgresql.create(name), "HEADWATER_PROMOTE": "auto"}
    found = {**versitygw.environment, **registry, "HEADWATER_LAKE": lake}
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    return found
