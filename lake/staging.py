"""Where a run keeps rows that nobody may read yet: a folder of its own that is gone with the run, also with one that was killed.

A run holds a lock on its folder. The kernel lets go of it when the process is gone, so a folder that nobody holds is left over.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_definitions import layout


@contextmanager
def staging(lake: str, run_id: str) -> Iterator[str]:
    """The staging folder of one run, removed at the end of the block; those of runs that are gone are removed first."""
    folder = Path(layout.staging_folder(lake, run_id))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.parent):
        for other in folder.parent.iterdir():
            _remove_if_left_over(other)
        folder.mkdir()
        held = _open(folder)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _remove_if_left_over(folder: Path) -> None:
    try:
        held = _open(folder)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(held)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Look through the staging folders alone, so that nobody takes one that is just being made for left over."""
    held = _open(folder)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
