"""What is decided of a catalog's groups at one moment, and how often the registry is asked for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import pytest

from feature_definitions import Entity, Feature, Source, TransformGroup, WindowedGroup
from feature_definitions.errors import NotCovered, Unknown
from feature_definitions.intervals import MICROSECOND, Interval
from feature_definitions.loader import Catalog
from feature_definitions.planning import fingerprint, plan
from feature_definitions.planning.upstream import ordered
from feature_definitions.records import Generation, IntervalState, LedgerEntry, Promotion, Publish, Release, Revision
from feature_registry.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from feature_definitions import FeatureGroup
    from feature_registry import schema
    from feature_registry.registry import Registry

CUSTOMER = Entity("customer", {"customer_id": "int64"})
COLUMNS = {"customer_id": "int64", "amount": "double", "at": "timestamp"}
PAYMENTS = Source("payments", columns=COLUMNS, event_timestamp="at", ready_after="1h")
TOTAL = Feature("s", "sum", "amount", windows=("1d",))
SPEND = WindowedGroup("spend", CUSTOMER, PAYMENTS, ttl="2d", features=(TOTAL,))


def transform(name: str, *inputs: FeatureGroup) -> TransformGroup:
    """A daily transform of groups."""
    return TransformGroup(name, CUSTOMER, inputs, sql="SELECT 1", lookback="1d", schema={"x": "double"}, ttl="3d")


LEFT, RIGHT = transform("left", SPEND), transform("right", SPEND)
TOP = transform("top", LEFT, RIGHT)


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def one_day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(day(n), day(n + 1))


def done(group: FeatureGroup, n: int, state: IntervalState = "PUBLISHED", generation: int = 1) -> LedgerEntry:
    """What the ledger holds after a run did one day of a group."""
    return LedgerEntry(
        group.name, generation, one_day(n), state, "p5", fingerprint.columns(group), fingerprint.gate(group), 1, 1, 1,
        ("x",) if state == "REJECTED" else (), (), "run", 1.0, day(9),
    )  # fmt: skip


@dataclass
class Remembered:
    """A registry that counts what it is asked for."""

    entries: list[LedgerEntry] = field(default_factory=list)
    known: list[Generation] = field(default_factory=list)
    past: list[Promotion] = field(default_factory=list)
    asked: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def generations(self, group: str) -> tuple[Generation, ...]:
        """The generations of a group."""
        self.asked["generations", group] += 1
        return tuple(each for each in self.known if each.group == group)

    def promotions(self, group: str) -> tuple[Promotion, ...]:
        """The promotions of a group."""
        self.asked["promotions", group] += 1
        return tuple(each for each in self.past if each.group == group)

    def ledger(self, group: str, generation: int) -> dict[Interval, LedgerEntry]:
        """The entries of a generation."""
        self.asked["ledger", group, generation] += 1
        return {e.interval: e for e in self.entries if (e.group, e.generation) == (group, generation)}

    def publishes(self, group: str, generation: int) -> tuple[Publish, ...]:
        """The publishes of a generation: one for each interval that was published."""
        self.asked["publishes", group, generation] += 1
        mine = (e for e in self.entries if (e.group, e.generation, e.state) == (group, generation, "PUBLISHED"))
        return tuple(Publish(e.publish_id, group, generation, e.interval, e.interval.end, "OBSERVED") for e in mine)

    def releases(self, group: str, generation: int) -> tuple[Release, ...]:
        """Nobody released anything."""
        self.asked["releases", group, generation] += 1
        return ()

    def revisions(self, source: str) -> tuple[Revision, ...]:
        """One event came on day 5."""
        self.asked["revisions", source] += 1
        return (Revision(source, 1, day(5).date(), day(5), day(5) + MICROSECOND, "hash", 1, day(5)),)

    def many(self, kind: schema.Remembered[Any], keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """What is asked of many groups is asked of each."""
        ask: dict[str, Callable[..., Any]] = {
            "generations": self.generations, "promotions": self.promotions, "publishes": self.publishes, "releases": self.releases,
            "revisions": self.revisions, "ledger": lambda *key: tuple(self.ledger(*key).values()),
        }  # fmt: skip
        return {key: ask[kind.table.name](*key) for key in keys}

    def online(self) -> frozenset[str]:
        """Nothing was ever synced."""
        return frozenset()


def planner(*groups: FeatureGroup, remembered: Remembered) -> Planner:
    """What can be decided at 02:00 of day 9."""
    named = {group.name: group for group in groups}
    transforms = {name: group for name, group in named.items() if isinstance(group, TransformGroup)}
    catalog = Catalog(
        entities=MappingProxyType({}), sources=MappingProxyType({}), services=MappingProxyType({}), training_sets=MappingProxyType({}),
        origins=MappingProxyType({}), transforms=MappingProxyType(transforms),
        groups=MappingProxyType({name: group for name, group in named.items() if not isinstance(group, TransformGroup)}),
    )  # fmt: skip
    return Planner(catalog, cast("Registry", remembered), "/lake", day(9, 2))


def generation(group: FeatureGroup, number: int, *, current: bool) -> Generation:
    """A generation that holds a group as it is defined."""
    return Generation(group.name, number, fingerprint.columns(group), current, day(6))


def days(intervals: Iterable[plan.IntervalStatus]) -> dict[int, str]:
    """The status of each day."""
    return {s.interval.start.day: s.status for s in intervals}


# ---------------------------------------------------------------------------------------------------------- each fact is read once


def test_a_diamond_of_transforms_reads_each_ledger_once() -> None:
    remembered = Remembered([done(SPEND, n) for n in range(5, 9)])
    one = planner(SPEND, LEFT, RIGHT, TOP, remembered=remembered)
    for group in (TOP, SPEND, LEFT, RIGHT):
        one.state(group)
    one.plan([TOP, RIGHT, SPEND])
    assert {asked: times for asked, times in remembered.asked.items() if asked[0] in ("ledger", "publishes", "revisions")} == {
        ("ledger", "spend", 1): 1, ("ledger", "left", 1): 1, ("ledger", "right", 1): 1, ("ledger", "top", 1): 1,
        ("publishes", "spend", 1): 1, ("publishes", "left", 1): 1, ("publishes", "right", 1): 1, ("revisions", "payments"): 1,
    }  # fmt: skip
    assert set(remembered.asked.values()) == {1}


def test_a_long_chain_of_diamonds_is_no_more_work_than_its_groups() -> None:
    chain: list[FeatureGroup] = [SPEND]
    for n in range(12):  # without memory the last one would look 2 ** 12 times at the first
        chain += [transform(f"left_{n}", chain[-1]), transform(f"right_{n}", chain[-1])]
        chain.append(transform(f"top_{n}", chain[-2], chain[-1]))
    remembered = Remembered()
    planner(*chain, remembered=remembered).plan([chain[-1]])
    assert sum(times for asked, times in remembered.asked.items() if asked[0] == "ledger") == len(chain)


def test_what_readers_see_and_what_is_due_come_of_one_look_at_a_generation() -> None:
    remembered = Remembered([done(SPEND, n) for n in range(5, 9)], [generation(SPEND, 1, current=True)])
    one = planner(SPEND, remembered=remembered)
    one.state(SPEND)
    assert one.promotable(SPEND, None, accept="covering") == one.generation(SPEND) == 1
    assert remembered.asked["ledger", "spend", 1] == remembered.asked["generations", "spend"] == 1


# -------------------------------------------------------------------------------------------------------------------- intervals


def test_a_plan_names_what_a_transform_reads_as_it_was_when_it_was_planned() -> None:
    one = planner(SPEND, LEFT, remembered=Remembered([done(SPEND, n) for n in range(5, 8)]))
    (work,) = one.plan([LEFT])
    assert [s.interval for s in work.due] == [one_day(5), one_day(6), one_day(7)]
    assert work.upstream == (one.upstream(SPEND),)
    assert [group.name for group in ordered([TOP, LEFT, SPEND])] == ["spend", "left", "top"]


def test_a_range_in_the_future_is_refused() -> None:
    with pytest.raises(plan.RangeError, match="lies in the future"):
        planner(SPEND, remembered=Remembered()).plan([SPEND], end=day(12))


def test_a_release_is_of_what_is_rejected_in_the_range() -> None:
    one = planner(SPEND, remembered=Remembered([done(SPEND, 5), done(SPEND, 6, "REJECTED"), done(SPEND, 7)]))
    assert one.release(SPEND, start=day(5), end=day(8), reason="known") == (Release("spend", 1, one_day(6), 1, "known", day(9, 2)),)
    with pytest.raises(plan.RangeError, match=r"name the rejected interval itself\. Those that hold: 2026-01-06"):
        one.release(SPEND, start=day(7), end=day(8), reason="known")


# ------------------------------------------------------------------------------------------------------------------ generations


OLD = replace(SPEND, features=(replace(TOTAL, aggregation="mean"),))


def two_generations(*, filled: Iterable[int], past: Iterable[Promotion] = ()) -> Planner:
    """A group whose definition changed, so that a second generation is filled beside the first, which holds four days."""
    entries = [done(OLD, n) for n in range(5, 9)] + [done(SPEND, n, generation=2) for n in filled]
    known = [generation(OLD, 1, current=True), generation(SPEND, 2, current=False)]
    return planner(SPEND, remembered=Remembered(entries, known, list(past)))


def test_a_new_generation_is_shown_once_it_covers_what_readers_see() -> None:
    whole, part = two_generations(filled=range(5, 9)), two_generations(filled=range(5, 8))
    assert [each.promotes(SPEND, 2, promote="auto") for each in (whole, part)] == [True, False]
    assert not whole.promotes(SPEND, 2, promote="manual")
    assert not whole.promotes(SPEND, 1, promote="auto")  # it is shown already
    assert not whole.promotes(SPEND, 3, promote="auto")  # it was never computed


def test_the_first_generation_is_shown_at_once_whoever_may_promote() -> None:
    first = planner(SPEND, remembered=Remembered([done(SPEND, 5)], [generation(SPEND, 1, current=False)]))
    assert first.promotes(SPEND, 1, promote="manual")
    assert (first.current(SPEND), first.generation(SPEND)) == (None, 1)


def test_what_a_person_chose_is_not_taken_back_by_a_run() -> None:
    chosen = Promotion("spend", 1, 1, 2, "person", day(8))
    assert not two_generations(filled=range(5, 9), past=[chosen]).promotes(SPEND, 2, promote="auto")


def test_a_promotion_that_takes_something_from_readers_is_refused_unless_gaps_are_accepted() -> None:
    part = two_generations(filled=[5])
    with pytest.raises(NotCovered, match=r"generation 2 of spend lacks 3 intervals that readers see in generation 1, the first 2026-01-06"):
        part.promotable(SPEND, None, accept="covering")
    assert part.promotable(SPEND, None, accept="gaps") == 2
    with pytest.raises(Unknown, match=r"group spend has no generation 7 that was computed; it has 1, 2\."):
        part.promotable(SPEND, 7, accept="gaps")


def test_a_promotion_notes_which_generation_was_the_newest_then() -> None:
    assert two_generations(filled=[5]).promotion(SPEND, 1, by="person") == Promotion("spend", 1, 1, 2, "person", day(9, 2))
