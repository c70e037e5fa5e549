"""What Feast may ask and Headwater refuses, each with what to run instead."""

from collections.abc import Iterator
from contextlib import contextmanager

from feature_definitions.errors import UserError


class FeastRefused(UserError):
    """Something that is asked through Feast and cannot be done there."""


def materializing(view: str) -> FeastRefused:
    """Feast's own materialize, and writes to the online store."""
    return FeastRefused(
        f"{view} is brought online by Headwater, which knows what was published and what changed; nothing was written. "
        f"Run instead: headwater sync {view}"
    )


def writing(view: str) -> FeastRefused:
    """Writes to the offline store."""
    return FeastRefused(
        f"the rows of {view} are computed and published by Headwater; nothing was written. Bring events to its source instead: "
        f"headwater materialize {view} --ingest"
    )


@contextmanager
def explained(what: str, *, instead: str) -> Iterator[None]:
    """Whatever Feast raises in the block, its settings, its registry or a module of a repository, as a sentence that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise FeastRefused(f"{what}: {type(error).__name__}: {said}; {instead}") from error
