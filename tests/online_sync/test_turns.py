"""A thread that brings rows online lets others go on soon."""

from __future__ import annotations

import subprocess
import sys

import pytest

from online_sync import turns

pytestmark = pytest.mark.skipif(turns.turn() is None, reason="this system does not tell for how long a thread works on")


def test_a_thread_has_short_turns_until_the_end_and_also_after_an_error() -> None:
    before = turns.turn()
    with pytest.raises(KeyError), turns.short():
        assert turns.turn() == 100_000
        raise KeyError
    assert turns.turn() == before != 100_000


def test_what_is_started_meanwhile_keeps_them() -> None:
    with turns.short():
        told = subprocess.run([sys.executable, "-c", "from online_sync import turns; print(turns.turn())"], capture_output=True, check=True)
    assert told.stdout == b"100000\n"
