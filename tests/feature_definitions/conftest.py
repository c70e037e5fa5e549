"""What the language can say once the engine runs all of it."""

from __future__ import annotations

import pytest

from feature_definitions import model


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused as not yet supported."""
    monkeypatch.setattr(model, "NOT_YET", frozenset())
