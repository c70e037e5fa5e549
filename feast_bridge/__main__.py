"""What `headwater feast` starts: words in, one JSON document out; a mistake of the user's is a document too, and ends with 2."""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from feature_definitions.errors import UserError

MISTAKE = 2


def main(words: Sequence[str]) -> int:
    """Do what the words say; what Feast prints goes to stderr."""
    verb, *rest = words
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(action="ignore"):
            document = _VERBS[verb](*rest)
    except UserError as error:
        sys.stdout.write(json.dumps({"mistake": str(error)}))
        return MISTAKE
    sys.stdout.write(json.dumps(document))
    return 0


def _apply(project: str, repo: str) -> dict[str, Any]:
    from feast_bridge import repository
    from feast_bridge.projects import opened

    return repository.apply(opened(Path(project)), Path(repo))._asdict()


def _import(project: str, repo: str) -> dict[str, Any]:
    from feast_bridge import draft_catalog, repo_contents

    found = repo_contents.contents(Path(repo), root=Path(project))
    return {"project": found.project, "text": draft_catalog.text(found), "left_out": [*found.left_out]}


_VERBS: dict[str, Callable[..., dict[str, Any]]] = {"apply": _apply, "import": _import}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
