"""Which lake it is: a short word that is made once and lies in the lake, so that what was brought online from it is known as its own.

It moves with the lake's folder and outlives the registry. A copy of a lake has the same word, so it counts as the same lake.
"""

import re
import secrets
from contextlib import suppress

from feature_definitions import layout
from feature_definitions.errors import UserError
from lake import storage

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_LENGTH = 8


class DamagedIdentity(UserError):
    """A file that should say which lake it is and does not."""


def of(lake: str) -> str | None:
    """The lake's identity; None if it has none yet."""
    try:
        said = storage.read(layout.identity_file(lake)).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    if not re.fullmatch(f"[{_LETTERS}]{{{_LENGTH}}}", said):
        raise DamagedIdentity(
            f"{layout.identity_file(lake)} says {said!r}, which is no lake's identity; put back what it said, or delete it: "
            "then the lake counts as another one, and `headwater sync --take-over` brings all its rows online anew"
        )
    return said


def made(lake: str) -> str:
    """The lake's identity, made if it has none yet; of several who make it at once all get the first one's."""
    with suppress(FileExistsError):
        if of(lake) is None:
            storage.create(layout.identity_file(lake), "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)).encode())
    found = of(lake)
    if found is None:
        raise FileNotFoundError(layout.identity_file(lake))
    return found
