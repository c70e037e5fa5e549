"""A lake's identity: made once, the same for all, and kept with the lake."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from feature_definitions import layout
from lake import identity, storage

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lake_has_no_identity_before_it_is_made(lake: str) -> None:
    assert identity.of(lake) is None
    made = identity.made(lake)
    assert identity.of(lake) == identity.made(lake) == made


def test_all_who_make_it_at_once_get_the_same(lake: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: identity.made(lake), range(8)))) == 1


def test_it_moves_with_the_lake_and_another_lake_has_another(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    made = identity.made(str(here))
    shutil.move(here, there)
    assert identity.of(str(there)) == made
    assert identity.made(str(here)) != made


def test_a_damaged_identity_is_refused_with_what_to_do(lake: str) -> None:
    storage.write(layout.identity_file(lake), b"what")
    with pytest.raises(identity.DamagedIdentity, match="says 'what', which is no lake's identity; put back what it said, or delete it"):
        identity.made(lake)
