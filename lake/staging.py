"""Where a run keeps rows that nobody may read yet: a folder of its own that is gone with the run, also with one that was killed.

A run says in its folder which process it is, and says again and again that it lives. A folder is left over when its process is gone from
this machine, and when it is of another machine and was silent for `SILENCE`. Who clears a folder away says first that it is nobody's: so a
run that was only stopped for long finds that out before it commits rows of which some may be gone (`guarded`).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from feature_definitions import layout
from lake import processes, storage

SILENCE = timedelta(hours=1)
"""A folder of another machine's run that said nothing for so long is left over."""
_BEATS = 12
"""How often a run says within that time that it lives."""
_OWNER, _ALIVE = "_owner", "_alive"
"""In a run's folder: which process it is, put there once; and what is put again and again. Spark takes neither for rows."""
_NOBODYS = b"[]"


class StagingLost(RuntimeError):
    """The rows that a run had computed were cleared away, because it was silent for too long; it commits nothing."""


@contextmanager
def staging(lake: str, run_id: str) -> Iterator[str]:
    """The staging folder of one run, removed at the end of the block; those of runs that are gone are removed first."""
    folder = layout.staging_folder(lake, run_id)
    storage.write(f"{folder}/{_OWNER}", _mine())

    def say() -> None:
        storage.write(f"{folder}/{_ALIVE}", b".")

    try:
        sweep(lake, now=lambda: max(each.written_at for each in storage.files(folder)))
        with processes.beating(say, every=SILENCE / _BEATS, name="staging", forgiven=Exception):
            yield folder
    finally:
        clear(folder)


def sweep(lake: str, *, now: Callable[[], datetime]) -> list[str]:
    """Remove the folders of runs that are gone, and name them; `now` is best told by what keeps the lake, whose times files have."""
    gone = [folder for folder in storage.folders(layout.staging(lake)) if _is_left_over(folder, now)]
    for folder in gone:
        clear(folder)
    return gone


def clear(folder: str) -> None:
    """Remove a run's folder; the run, if it lives, commits nothing of it from now on."""
    storage.write(f"{folder}/{_OWNER}", _NOBODYS)
    storage.delete_tree(folder)


def guarded(folder: str, fence: Callable[[], None]) -> Callable[[], None]:
    """What is called right before an attempt to commit rows of a run's folder: refuses if the folder was cleared away, or by `fence`."""

    def check() -> None:
        if _owner(folder) != _mine():
            raise StagingLost(
                f"the computed rows in {folder} were cleared away by another process, since this one was silent for too long; "
                "nothing was changed: run the same command again"
            )
        fence()

    return check


def _is_left_over(folder: str, now: Callable[[], datetime]) -> bool:
    said = _owner(folder)
    if said is None:  # somebody clears it away, or it was made before folders said whose they are
        return _is_silent(folder, now)
    if said == _NOBODYS:
        return True
    owner = processes.Process(*json.loads(said))
    return owner.is_gone or (not owner.is_here and _is_silent(folder, now))


def _owner(folder: str) -> bytes | None:
    try:
        return storage.read(f"{folder}/{_OWNER}")
    except FileNotFoundError:
        return None


def _mine() -> bytes:
    return json.dumps(processes.this()).encode()


def _is_silent(folder: str, now: Callable[[], datetime]) -> bool:
    files = storage.files(folder)
    return not files or now() - max(each.written_at for each in files) > SILENCE
