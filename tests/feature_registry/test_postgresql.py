"""The registry on a real PostgreSQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from feature_definitions.records import Epoch
from feature_registry import RegistryError, open_registry, subjects
from tests.postgresql import PASSWORD

if TYPE_CHECKING:
    from tests.postgresql import Server

T = datetime(2026, 1, 5, tzinfo=UTC)
EPOCH = Epoch("spend", 1, 1, T, 5, 5, T)


def test_the_registry_opens_there_and_remembers(postgresql: Server) -> None:
    url = postgresql.create("remembering")
    with open_registry(url) as registry:
        assert registry.blank()
        registry.record_epoch(EPOCH)
    with open_registry(url) as registry:
        assert registry.epochs("spend") == (EPOCH,)
        with registry.lease(subjects.source("spend", lake="/lake"), now=T) as lease:
            lease.check()


@pytest.mark.parametrize(
    ("said", "instead", "message"),
    [
        (PASSWORD, f"{PASSWORD}-not", 'password authentication failed for user "ada"'),
        ("/absent", "/nowhere", 'database "nowhere" does not exist'),
        (r":\d+/", ":1/", "Connection refused"),
    ],
)
def test_what_is_wrong_there_is_told_in_one_sentence_without_the_password(
    postgresql: Server, said: str, instead: str, message: str
) -> None:
    with pytest.raises(RegistryError, match=message) as refused:
        open_registry(re.sub(said, instead, postgresql.url("absent"))).close()
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)
