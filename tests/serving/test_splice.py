"""Answers put together from pieces that are near: they are those of plain lookups, whatever is near, and read as little as they can."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from feature_definitions import Feature, FeatureService, Join, WindowedGroup, layout
from feature_definitions.intervals import MICROSECOND, instant, micros
from feature_definitions.reading import FOREVER, Question, conditions, unchanged_until
from online_sync.codec import EpochRecord, Row, RowSchema, encode, encode_epoch
from serving import splice
from serving.forms import PLAIN
from serving.request import compile_service
from serving.splice import Splicer
from tests.serving import test_answer as given_by
from tests.serving.test_answer import AIRPORT_RECORD, COVERAGE, NOW, RECORD, ROW, TTL, by_customer, payments, stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SINCE = WindowedGroup(
    "since", given_by.customer, payments, ttl="2d", features=(Feature("since", "time_since_last", windows=("7d",)),)
)  # fmt: skip
SINCE_RECORD = replace(RECORD, group="since", columns=(("since_7d", "timestamp"),), empty=(None,))
EVERYTHING = FeatureService(
    "everything",
    joins=(
        Join(given_by.spend, ("mean", "total_1d")), Join(given_by.visit), Join(given_by.contract), Join(given_by.airport),
        Join(SINCE), Join(given_by.spend, prefix="other", on={"customer_id": "other_id"}),
    ),
    defaults={"spend__mean": 0.5, "visit__day": COVERAGE.date()},
)  # fmt: skip
RECORDS = [RECORD, given_by.VISIT_RECORD, given_by.CONTRACT_RECORD, AIRPORT_RECORD, SINCE_RECORD]
ROWS = {
    "spend": ROW.values, "visit": given_by.VISITED.values, "contract": ("basic",), "airport": ("Newark",), "since": (micros(COVERAGE),)
}  # fmt: skip
OFFSETS = st.sampled_from([-TTL - MICROSECOND, -TTL, -MICROSECOND, timedelta(0), MICROSECOND, TTL, TTL + MICROSECOND])


class Reads:
    """A splicer with a store that is a dict; counts what it reads."""

    def __init__(self, service: FeatureService, store: Mapping[str, bytes], **options: Any) -> None:
        self.plan = compile_service(service)
        self.splicer, self.store = Splicer(self.plan, space=RECORD.space, **options), store
        self.reads: list[list[str]] = []

    def answer(self, *entities: dict[str, object], now: datetime = NOW, at: float = 0.0, trust: float = 0.0) -> Any:
        keys = [tuple(entity[name] for name in self.plan.asked) for entity in entities]
        asking = self.splicer.asking(keys, now=micros(now), at=at, trust=trust)
        self.reads = []
        try:
            wanted = next(asking)
            while True:
                self.reads.append(wanted)
                wanted = asking.send([self.store.get(key) for key in wanted])
        except StopIteration as end:
            return json.loads(self.splicer.form.whole(end.value, PLAIN))["results"]


@st.composite
def stores(draw: st.DrawFn) -> dict[str, bytes]:
    """A store with or without the records and rows of each group, of every state."""
    found: dict[str, bytes] = {}
    for record in RECORDS:
        if not draw(st.integers(0, 5)):
            continue
        covered = None if record.coverage is None or not draw(st.integers(0, 5)) else micros(COVERAGE + draw(OFFSETS))
        shown = replace(record, coverage=covered, epoch=draw(st.sampled_from([0, 5, 5, 5])), floor=draw(st.sampled_from([0, 0, 6])))
        found[layout.epoch_key(record.space, record.group)] = encode_epoch(shown)
        for entity in ("1", "2", "EWR", "DE|7"):
            if draw(st.booleans()):
                found[layout.row_key(record.space, record.group, 1, entity)] = encode(RowSchema(record.columns), draw(rows_of(record)))
    return found


@st.composite
def rows_of(draw: st.DrawFn, record: EpochRecord) -> Row:
    values = ROWS[record.group]
    empties = draw(st.none() | OFFSETS.map(lambda offset: micros(COVERAGE + offset)))
    return Row(
        micros(COVERAGE + draw(OFFSETS)), empties, draw(st.booleans()), draw(st.booleans()), 5,
        draw(st.sampled_from([values, (None,) * len(values)])),
    )  # fmt: skip


ENTITIES = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from([1, 2, None]), "other_id": st.sampled_from([1, 2, 3]), "country": st.sampled_from(["DE", None]),
        "shop_id": st.just(7), "airport": st.sampled_from(["EWR", "a|b"]),
    }
)  # fmt: skip


@given(st.lists(stores(), min_size=2, max_size=2), st.lists(ENTITIES, min_size=1, max_size=3), st.lists(OFFSETS, min_size=2, max_size=2))
def test_an_answer_is_that_of_a_lookup_whatever_was_asked_before(
    some: list[dict[str, bytes]], entities: list[dict[str, object]], offsets: list[timedelta]
) -> None:
    reads = Reads(EVERYTHING, some[0])
    for store in some:
        reads.store = store
        for offset in (*offsets, offsets[0]):
            now = NOW + offset
            assert reads.answer(*entities, now=now) == given_by.ask(EVERYTHING, entities, store=store, now=now)


@given(
    st.sampled_from(["windowed", "snapshot", "observation", "static"]), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5),
    st.integers(0, 9), st.integers(0, 9), st.booleans(),
)  # fmt: skip
def test_a_case_holds_just_until_it_is_said_to(kind: Any, at: int, coverage: int, ttl: int, row: int, empties: int, held: bool) -> None:
    def case(asked_at: int) -> int:
        asked = Question(kind, asked_at, coverage, ttl)
        return conditions(asked, nobody=False, absent=False, at=row, empties_at=empties, held=held).index(True)

    until = unchanged_until(Question(kind, at, coverage, ttl), at=row, empties_at=empties)
    assert {case(time) for time in range(at, min(until, 30) + 1)} == {case(at)}
    assert until == FOREVER or until >= at


def test_a_row_that_is_near_is_not_read_again_but_its_record_is() -> None:
    reads = Reads(by_customer, stored(RECORD, (42,), ROW))
    first = reads.answer({"customer_id": 42})
    assert len(reads.reads) == 2  # the generation was not known
    assert reads.answer({"customer_id": 42}, at=1.0) == first
    assert reads.reads == [["hw:shop:lakelake:spend:epoch"]]
    assert (reads.splicer.near, reads.splicer.found) == (1, 2)


def test_a_record_that_is_trusted_is_not_read_again() -> None:
    reads = Reads(by_customer, stored(RECORD, (42,), ROW))
    reads.answer({"customer_id": 42}, at=1.0)
    reads.answer({"customer_id": 42}, at=1.1, trust=0.2)
    assert reads.reads == []
    reads.answer({"customer_id": 42}, at=1.3, trust=0.2)
    assert reads.reads == [["hw:shop:lakelake:spend:epoch"]]


def test_one_read_fetches_the_record_and_the_rows_that_are_not_near() -> None:
    reads = Reads(by_customer, stored(RECORD, (42,), ROW))
    reads.answer({"customer_id": 42})
    reads.answer({"customer_id": 42}, {"customer_id": 7})
    assert reads.reads == [["hw:shop:lakelake:spend:epoch", "hw:shop:lakelake:spend@1:{7}"]]


def test_a_finished_sync_is_seen_at_once() -> None:
    reads = Reads(by_customer, stored(RECORD, (42,), ROW))
    reads.answer({"customer_id": 42})
    reads.store = stored(replace(RECORD, epoch=6, begun=6), (42,), replace(ROW, epoch=6, values=("9.00", "9.00", 1, 9.0)))
    assert reads.answer({"customer_id": 42})[0]["values"]["spend__total_1d"] == "9.00"


def test_what_is_not_asked_for_any_more_is_forgotten() -> None:
    reads = Reads(by_customer, stored(RECORD, (42,), ROW), most=4)
    for customer in (42, 1, 42, 2, 42, 3, 42, 4, 42):
        reads.answer({"customer_id": customer})
    assert reads.reads == [["hw:shop:lakelake:spend:epoch"]]
    reads.answer({"customer_id": 1})
    assert reads.reads == [["hw:shop:lakelake:spend:epoch", "hw:shop:lakelake:spend@1:{1}"]]


@pytest.mark.parametrize("seconds", [0, 172_800 - 6 * 3600])
def test_what_time_changes_is_read_anew(seconds: int) -> None:
    reads = Reads(by_customer, stored(RECORD, (42,), ROW))
    reads.answer({"customer_id": 42})
    now = instant(micros(NOW) + seconds * 1_000_000 + 1)
    [result] = reads.answer({"customer_id": 42}, now=now)
    assert result["status"] == {"spend": "EXPIRED" if seconds else "PRESENT"}


# ------------------------------------------------------------------------------------------------------- while records become others

TRUST = 10.0
CUSTOMERS = [(n,) for n in (1, 2, 3, 4)]


@cache
def state_of(number: int) -> dict[str, bytes]:
    """The store after so many syncs: rows have its number as their value; every second sync is of a new generation without customer 3."""
    record = replace(RECORD, epoch=number + 5, begun=number + 5, generation=1 + number // 2)
    row = encode(RowSchema(record.columns), replace(ROW, epoch=record.epoch, values=("1.00", "1.00", number, 1.0)))
    found = {layout.epoch_key(record.space, record.group): encode_epoch(record)}
    return found | {layout.row_key(record.space, "spend", record.generation, str(n)): row for n in (1, 2, 3) if n < 3 or number % 2}


class Underway:
    """A request or a renewal that waits for what the store held when it was asked."""

    def __init__(self, many: Many, entities: list[tuple[int]] | None) -> None:
        self.many, self.entities, self.at, self.told = many, entities, many.at, dict(many.told)
        now = micros(NOW)
        splicer: Any = many.splicer
        asking = splicer.renewing(now=now, at=self.at, trust=TRUST)
        self.generator = asking if entities is None else splicer.asking(entities, now=now, at=self.at, trust=TRUST)
        self.step(None)

    def step(self, sent: Any) -> None:
        """Send it what it waits for, and have it ask on; once it ends its answer must hold."""
        try:
            self.stored: Any = [self.many.store().get(key) for key in self.generator.send(sent)]
        except StopIteration as end:
            self.stored = None
            if self.entities is not None:
                self.many.check(self.entities, end.value, self.at, self.told)


class Many:
    """A splicer that is asked by many at a time while syncs finish, and what was told of each customer."""

    def __init__(self, most: int) -> None:
        self.splicer = Splicer(compile_service(by_customer), space=RECORD.space, most=most)
        self.at, self.states, self.told = 0.0, [0.0], dict.fromkeys(CUSTOMERS, 0)
        self.under_way: list[Underway] = []

    def store(self) -> dict[str, bytes]:
        return state_of(len(self.states) - 1)

    def hand(self, entities: list[tuple[int]]) -> None:
        pieces = self.splicer.at_hand(entities, now=micros(NOW), at=self.at, within=TRUST)
        if pieces is not None:
            self.check(entities, pieces, self.at, dict(self.told))

    def check(self, entities: list[tuple[int]], pieces: Any, since: float, told: dict[tuple[int], int]) -> None:
        """An answer is that of a lookup in a state that held within the trust, and in none before one that was told already."""
        answer = json.loads(self.splicer.form.whole(pieces, PLAIN))["results"]
        least = max(told[entity] for entity in entities)
        held = [n for n, end in enumerate([*self.states[1:], float("inf")]) if end > since - TRUST and n >= least]
        asked: list[dict[str, object]] = [{"customer_id": entity[0]} for entity in entities]
        fitting = [n for n in held if given_by.ask(by_customer, asked, store=state_of(n)) == answer]
        assert fitting, (answer, held)
        self.told |= {entity: max(self.told[entity], fitting[0]) for entity in entities}

    def do(self, what: str, entities: list[tuple[int]], number: int) -> None:
        match what:
            case "sync":
                self.states.append(self.at)
            case "wait":
                self.at += 2 * number
            case "hand":
                self.hand(entities)
            case "ask" | "renew":
                asking = Underway(self, entities if what == "ask" else None)
                while asking.stored is not None:
                    asking.step(asking.stored)
            case "begin to ask" | "begin to renew":
                self.under_way.append(Underway(self, entities if what == "begin to ask" else None))
            case _ if self.under_way:
                waiting = self.under_way[number % len(self.under_way)]
                waiting.step(waiting.stored)
        self.under_way = [each for each in self.under_way if each.stored is not None]


DOINGS = st.tuples(
    st.sampled_from(["sync", "wait", "hand", "hand", "ask", "ask", "renew", "begin to ask", "begin to renew", "go", "go"]),
    st.lists(st.sampled_from(CUSTOMERS), min_size=1, max_size=3), st.integers(1, 4),
)  # fmt: skip


@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(DOINGS, min_size=20, max_size=60), st.sampled_from([4, 100]), st.sampled_from([1, 100]))
def test_no_answer_is_older_than_the_trust_or_than_one_that_was_told_before(
    doings: list[tuple[Any, ...]], most: int, at_a_time: int
) -> None:
    with mock.patch.object(splice, "_KEYS_AT_A_TIME", at_a_time):
        many = Many(most)
    for doing in doings:
        many.do(*doing)


def brought(reads: Reads, *, at: float, trust: float) -> int:
    """Renew until nothing is left, and say how many reads it took."""
    count, more = 0, True
    while more:
        renewing = reads.splicer.renewing(now=micros(NOW), at=at, trust=trust)
        with pytest.raises(StopIteration) as end:
            renewing.send([reads.store.get(key) for key in next(renewing)])
        more, count = end.value.value, count + 1
    return count


def test_what_was_asked_for_is_near_again_after_a_sync_and_answered_meanwhile() -> None:
    reads = Reads(by_customer, state_of(0))
    customers = [{"customer_id": n} for n in range(250)]
    reads.answer(*customers, trust=TRUST)
    reads.store = state_of(1)
    renewing = reads.splicer.renewing(now=micros(NOW), at=1.0, trust=TRUST)
    with pytest.raises(StopIteration):
        renewing.send([reads.store.get(key) for key in next(renewing)])
    assert reads.answer({"customer_id": 1}, at=2.0, trust=TRUST)[0]["values"]["spend__payments_7d"] == 1  # who asks the store gets the new
    before = reads.splicer.at_hand([(2,)], now=micros(NOW), at=2.0, within=TRUST)
    assert b'"spend__payments_7d":0' in (before or [b""])[0]
    assert brought(reads, at=3.0, trust=TRUST) == 3  # of a hundred each, not counting what was asked for meanwhile
    assert reads.answer(*customers, at=4.0, trust=TRUST)[2]["values"]["spend__payments_7d"] == 1
    assert reads.reads == []


def test_what_nobody_asked_for_since_the_last_sync_is_not_brought_again() -> None:
    reads = Reads(by_customer, state_of(0))
    reads.answer(*[{"customer_id": n} for n in range(250)], trust=TRUST)
    for number, count in ((1, 4), (2, 2)):
        reads.store = state_of(number)
        assert brought(reads, at=number, trust=TRUST) == count
        reads.answer({"customer_id": 1}, at=number, trust=TRUST)
        assert reads.reads == []
    reads.answer({"customer_id": 2}, at=2.0, trust=TRUST)
    assert len(reads.reads) == 1


def test_what_is_older_than_the_trust_is_not_answered_though_not_all_is_brought() -> None:
    reads = Reads(by_customer, state_of(0))
    reads.answer(*[{"customer_id": n} for n in range(250)], trust=TRUST)
    reads.store = state_of(1)
    for at in (1.0, TRUST):
        renewing = reads.splicer.renewing(now=micros(NOW), at=at, trust=TRUST)
        with pytest.raises(StopIteration):
            renewing.send([reads.store.get(key) for key in next(renewing)])
    assert reads.splicer.at_hand([(249,)], now=micros(NOW), at=TRUST, within=TRUST) is None
    assert b'"spend__payments_7d":1' in (reads.splicer.at_hand([(1,)], now=micros(NOW), at=TRUST, within=TRUST) or [b""])[0]
