"""Whether the rows that a training set has would come out the same today: only then is something added to it, and not all of it built anew.

What is added then gives what a whole build would give. Where it would not, the reason is told.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from feature_definitions.counted import counted
from feature_definitions.errors import UserError
from feature_definitions.intervals import micros, parse_instant
from feature_definitions.language import Mode
from feature_definitions.records import Publish
from lake import readable
from lake.readable import Published
from lake.training_sets import BuiltVersion
from spark_jobs.training import past
from spark_jobs.training.past import Said
from spark_jobs.training.verify import Rests, as_they_were


class NotAsBefore(UserError):
    """A training set that nothing is added to, since a whole build would give its rows other values."""


class Then(NamedTuple):
    """The groups of a training set as they were when it was built."""

    published: Mapping[str, Published]


def then(of: BuiltVersion, rests: Rests) -> Then:
    """The groups as they were; raises NotAsBefore where rows of the training set would come out otherwise now."""
    published, unknown = as_they_were(of, rests)
    reasons = chain(past.changed(of, rests.service, rests.published), unknown, _moved(of, rests.published, published))
    first = next(reasons, None)
    if first is not None:
        raise NotAsBefore(f"{of.manifest['name']}: {first}, so its rows would have other values now; {anew(of)}")
    return Then(published)


def anew(of: BuiltVersion) -> str:
    """What to do instead."""
    return f"build it anew: headwater training-set build {of.manifest['name']}"


def _moved(of: BuiltVersion, now: Mapping[str, Published], before: Mapping[str, Published]) -> Iterator[str]:
    """What was published since that rows of the training set see."""
    said: Said = of.manifest
    last = said["spine"]["last"]
    if last is None:
        return
    at = micros(parse_instant(last))
    for name, published in before.items():
        seen = [visible(each, said["mode"], by=at) for each in (now[name], published)]
        more = len(seen[0] ^ seen[1])
        if more:
            yield f"{counted(more, 'interval')} of {name} were published since, which its rows see in mode {said['mode']}"
        elif said["mode"] == "as_served" and _online(now[name], at) != _online(published, at):
            yield f"{name} was synced since, at a time that its rows see"


def visible(published: Published, mode: Mode, *, by: int) -> frozenset[Publish]:
    """The publishes of whose rows some are visible at a time, in microseconds."""
    at_end = published.group.row_time == "end"

    def since(each: Publish) -> int:
        own = micros(each.interval.end if at_end else each.interval.start)
        return own if mode == "event_time" else max(own, micros(each.known_from))

    return frozenset(each for each in published.publishes if since(each) <= by)


def _online(published: Published, by: int) -> list[tuple[int, int]]:
    return [state for state in readable.online_states(published) if state[0] <= by]
