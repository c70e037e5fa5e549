"""Rows that were judged and wait for a person: each run's in a folder of its own, which stays as it was until somebody decides.

A note beside the rows says which files they are, and how long. So what is published is what was judged, or nothing.
"""

import json
from collections.abc import Collection
from datetime import datetime

from feature_definitions import layout
from feature_definitions.errors import UserError
from lake import storage

_NOTE, _ROWS = "_judged.json", "rows"


class WaitingLost(UserError):
    """The rows of a run that waits are not there as they were judged."""


def rows_folder(lake: str, group: str, run_id: str) -> str:
    """Where the rows of a run lie."""
    return f"{layout.waiting_folder(lake, group, run_id)}/{_ROWS}"


def note(lake: str, group: str, run_id: str, *, schema: str) -> None:
    """Note which files hold a run's rows, once they are written, and the columns of these as Spark spells them in JSON."""
    folder = layout.waiting_folder(lake, group, run_id)
    text = json.dumps({"schema": schema, "files": _files(folder)}, indent=1)
    storage.write(f"{folder}/{_NOTE}", text.encode())


def noted(lake: str, group: str, run_id: str) -> str:
    """The columns of a run's rows; raises WaitingLost unless its files are those that were noted."""
    folder = layout.waiting_folder(lake, group, run_id)
    try:
        said = json.loads(storage.read(f"{folder}/{_NOTE}"))
    except FileNotFoundError:
        said = {"files": None}
    if said["files"] != _files(folder):
        raise WaitingLost(
            f"the rows of run {run_id} in {folder} are not those that were judged; "
            f"compute it again: headwater materialize {group} --only all --stage"
        )
    return str(said["schema"])


def clear(lake: str, group: str, run_id: str) -> None:
    """Remove the rows of a run that does not wait any more."""
    storage.delete_tree(layout.waiting_folder(lake, group, run_id))


def sweep(lake: str, *, waiting: Collection[tuple[str, str]], before: datetime) -> list[str]:
    """Remove the folders of runs that were not written to since `before`, but of those that wait (each a group and a run); names them."""
    kept = {layout.waiting_folder(lake, group, run_id) for group, run_id in waiting}
    found = (folder for group in storage.folders(layout.waiting(lake)) for folder in storage.folders(group) if folder not in kept)
    gone = [folder for folder in found if all(each.written_at < before for each in storage.files(folder))]
    for folder in gone:
        storage.delete_tree(folder)
    return gone


def _files(folder: str) -> dict[str, int]:
    """The Parquet files of a run's rows, each with its length."""
    rows = f"{folder}/{_ROWS}"
    return {each.path.removeprefix(rows): each.size for each in storage.files(rows, suffix=".parquet")}
