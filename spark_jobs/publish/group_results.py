"""What a run did to a group; it says so too where nothing was to be done, and then nothing that computes is imported."""

from dataclasses import dataclass

from feature_definitions.intervals import Interval


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What a run did to a group; `rejected` are the intervals that stay invisible, with the checks that failed.

    `waiting` are those that a person is to decide on, with the checks that warned; `publish_id` names the run then.
    `refused` says why nothing was done, where the group's run failed as a whole and others went on.
    """

    group: str
    generation: int
    published: int = 0
    rejected: tuple[tuple[Interval, tuple[str, ...]], ...] = ()
    rows: int = 0
    publish_id: str | None = None
    seconds: float = 0.0
    refused: str | None = None
    waiting: tuple[tuple[Interval, tuple[str, ...]], ...] = ()
