"""One file of a table's log, in which one commit is. Needs no deltalake, so that who only asks this starts soon."""

import json

from lake import storage


def is_of(path: str, version: int, commit_id: str) -> bool:
    """Whether a version of the table at `path` was made by the commit with this id, as far as the log still has its file, whole."""
    try:
        told = map(json.loads, storage.read(f"{path}/_delta_log/{version:020}.json").splitlines())
        return any(entry.get("commitInfo", {}).get("userMetadata") == commit_id for entry in told)
    except (FileNotFoundError, ValueError):
        return False
