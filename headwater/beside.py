"""What runs in a process of its own beside the command, since it loads what a command should not: words in, a JSON document out."""

import json
import subprocess
import sys
from typing import Any

from feature_definitions.errors import UserError

_MISTAKE = 2


def feast(*words: str) -> dict[str, Any]:
    """What `feast_bridge` says to some words; raises UserError with its sentence where the user made a mistake."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "feast_bridge", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # it is ours
    if done.returncode not in (0, _MISTAKE):
        raise RuntimeError((done.stderr.strip().splitlines() or [f"feast_bridge ended with {done.returncode}"])[-1])
    said: dict[str, Any] = json.loads(done.stdout)
    if done.returncode == _MISTAKE:
        raise UserError(str(said["mistake"]))
    return said
