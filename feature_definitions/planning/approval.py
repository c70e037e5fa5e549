"""What may become of a run that was judged and waits for a person: pure decisions over what was remembered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from feature_definitions.counted import counted
from feature_definitions.errors import UserError
from feature_definitions.intervals import Interval
from feature_definitions.planning.plan import IntervalStatus
from feature_definitions.records import LedgerEntry

Decision = Literal["publish", "refuse"]
REFUSED = "approval"
"""What an interval failed that a person refused."""


class RunRefused(UserError):
    """A run that no longer waits for anybody, or rests on what is no longer so."""


class StandingRun(NamedTuple):
    """What is remembered of a group's run: the ledger as it is now, and which intervals the run `left` waiting.

    `older` are the generations, other than the one that the definition means, in which it did some.
    """

    group: str
    run: str
    now: Mapping[Interval, LedgerEntry]
    left: Sequence[Interval]
    older: Sequence[int] = ()


class Open(NamedTuple):
    """What a decision ends: the intervals of the run that are as they were judged; and those that it leaves, each with the reason."""

    due: tuple[IntervalStatus, ...] = ()
    left: tuple[tuple[Interval, str], ...] = ()


def open_intervals(seen: StandingRun, found: Iterable[IntervalStatus], decision: Decision) -> Open:
    """The intervals of a run that a decision is about; none where the same was decided before, so that it may be said again.

    Each interval has its own verdict: what another run took over, and what rests on what changed since, is left. Raises RunRefused, with
    the reason, where that is all.
    """
    mine = {interval: entry for interval, entry in seen.now.items() if entry.run_id == seen.run}
    waiting = {interval for interval, entry in mine.items() if entry.state == "WAITING"}
    taken = tuple((interval, _became(seen.now.get(interval))) for interval in seen.left if interval not in mine)
    if not waiting:
        _refuse_unless_decided(seen, mine, taken, decision)
        return Open()
    now = {status.interval: status for status in found if status.interval in waiting}
    due = tuple(now[interval] for interval in sorted(now) if now[interval].run is not None)
    moved = tuple((interval, _moved(now.get(interval))) for interval in sorted(waiting - {status.interval for status in due}))
    if not due:
        raise RunRefused(
            f"run {seen.run} of {seen.group} rests on what is no longer so: {_said(moved)}; "
            f"compute it again: headwater materialize {seen.group} --stage"
        )
    return Open(due, (*taken, *moved))


def _became(entry: LedgerEntry | None) -> str:
    """Why an interval that waited is no longer a run's."""
    return "is not expected any more" if entry is None else f"is {entry.state} by run {entry.run_id}, which took its place"


def _moved(status: IntervalStatus | None) -> str:
    """Why an interval is not as it was judged."""
    if status is None:
        return "is not expected any more: its events were taken back"
    return f"is {status.status}: {'; '.join(status.reasons)}"


def _refuse_unless_decided(
    seen: StandingRun, mine: Mapping[Interval, LedgerEntry], taken: Sequence[tuple[Interval, str]], decision: Decision
) -> None:
    """Raise RunRefused unless nothing is left to do since the same was decided before."""
    published = [entry for entry in mine.values() if entry.state == "PUBLISHED"]
    refused = [entry for entry in mine.values() if any(name.startswith(REFUSED) for name in entry.failed)]
    if {"publish": published, "refuse": refused}[decision]:
        return
    if refused or published:
        was = "refused" if refused else "published"
        raise RunRefused(f"run {seen.run} of {seen.group} was {was} already; that stands until its intervals are computed again")
    if taken:
        raise RunRefused(f"run {seen.run} of {seen.group} waits no longer: {_said(taken)}")
    if seen.older:
        raise RunRefused(
            f"run {seen.run} of {seen.group} computed generation {seen.older[0]}, and the definition means another one since; "
            f"compute it again: headwater materialize {seen.group} --stage"
        )
    runs = sorted({entry.run_id for entry in seen.now.values() if entry.state == "WAITING"})
    known = f"these wait: {', '.join(runs)}" if runs else "none does"
    raise RunRefused(f"{seen.group} has no run {seen.run!r} that waits for approval; {known}")


def _said(some: Sequence[tuple[Interval, str]]) -> str:
    (interval, why), more = some[0], len(some) - 1
    return f"{interval} {why}" + (f" (and {counted(more, 'interval')} more)" if more else "")
