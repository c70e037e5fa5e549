"""A group as it was served: what the syncs that had finished brought, and how sure it is; against a plain oracle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import Interval, micros
from feature_definitions.records import Committed, Epoch, Erasure, Publish
from feature_definitions.sql.column_types import column_types_of
from lake import readable
from lake.readable import AsOf, Published
from spark_jobs.training import certainty
from tests.online_sync.stories import SEEN, WALKED

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERVED = AsOf("as_served")
SYNCS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.booleans(), st.sampled_from([1, 1, 1, 2])), max_size=6)
"""Of each sync: hours since the one before, hours that it takes, whether it finishes, and of which generation it is."""
PUBLISHES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 14)), max_size=6)
"""Of each publish: which hour it is of, and hours until it was known."""


def history(syncs: Sequence[Any]) -> tuple[Epoch, ...]:
    """Syncs one after the other; one that does not finish is overtaken by the next."""
    now, made = FIRST, []
    for number, (wait, takes, finishes, generation) in enumerate(syncs, 1):
        begun = now + wait * HOUR
        now = begun + takes * HOUR
        made.append(Epoch("seen", generation, number, None, 1, 1, begun, begun, now if finishes else None))
    return tuple(made)


def made(publishes: Sequence[tuple[int, int]], epochs: tuple[Epoch, ...]) -> Published:
    """The group of windows, generation 1."""
    known = tuple(
        Publish(f"p{n}", "walked", 1, Interval(FIRST + h * HOUR, FIRST + (h + 1) * HOUR), FIRST + (h + 1 + late) * HOUR, "OBSERVED")
        for n, (h, late) in enumerate(publishes)
    )
    return Published(WALKED, 1, "", column_types_of(WALKED), known, None, epochs)


def last_finished(epochs: Sequence[Epoch], at: datetime, *, generation: int | None = None) -> Epoch | None:
    """The newest sync that had finished."""
    done = [e for e in epochs if e.ended_at is not None and e.ended_at <= at and generation in (None, e.generation)]
    return done[-1] if done else None


@given(publishes=PUBLISHES, syncs=SYNCS, hour=st.integers(0, 40))
def test_at_each_time_those_publishes_are_seen_that_the_last_finished_sync_saw(
    publishes: list[tuple[int, int]], syncs: list[Any], hour: int
) -> None:
    published, at = made(publishes, history(syncs)), FIRST + hour * HOUR
    known = readable.known(published, SERVED)
    found = {pid for pid, since in zip(known["publish_id"].to_pylist(), known["known"].to_pylist(), strict=True) if since <= micros(at)}
    sync = last_finished(published.epochs, at, generation=1)
    seen = [p for p in published.publishes if sync is not None and p.known_from <= sync.synced_at]
    assert found == {p.publish_id for p in seen}
    steps = [end for since, end in readable.coverage(published, SERVED) if since <= micros(at)]
    assert (steps[-1] if steps else None) == max((micros(p.interval.end) for p in seen), default=None)


@given(syncs=SYNCS, hours=st.lists(st.integers(0, 40), max_size=5))
def test_it_is_said_of_each_time_how_sure_the_answer_is(syncs: list[Any], hours: list[int]) -> None:
    epochs, found = history(syncs), readable.certainty(made([], history(syncs)))
    expected = [0] * len(certainty.KINDS)
    for hour in hours:
        at = FIRST + hour * HOUR
        done = last_finished(epochs, at)
        begun = [e for e in epochs if e.begun_at is not None and e.begun_at <= at and (done is None or e.epoch > done.epoch)]
        kind = "certain" if done is not None and done.generation == 1 else "another generation"
        expected[certainty.KINDS.index("not online" if done is None else "during a sync" if begun else kind)] += 1
    assert certainty.counted(found, np.array([micros(FIRST + hour * HOUR) for hour in hours], np.int64)).tolist() == expected


def test_history_that_was_filled_in_after_a_sync_was_not_online_before_the_next_one() -> None:
    at = [FIRST + n * HOUR for n in range(9)]
    syncs = tuple(Epoch("walked", 1, n, None, 1, 1, at[n], at[n], at[n]) for n in (3, 6))
    filled = Publish("p2", "walked", 1, Interval(at[0], at[1]), at[1], "MODELLED")
    published = replace(made([], syncs), publishes=(filled,))
    later = readable.none_before_its_commit(published, [Committed("walked", 1, "p2", at[4], 1), Committed("other", 1, "p2", at[8], 1)])
    assert readable.known(published, SERVED)["known"].to_pylist() == [micros(at[3])]
    assert readable.known(later, SERVED)["known"].to_pylist() == [micros(at[6])]
    assert readable.coverage(later, SERVED) == ((micros(at[6]), micros(at[1])),)


def test_syncs_of_an_older_headwater_count_from_when_they_looked() -> None:
    published = made([(0, 0)], (Epoch("walked", 1, 1, None, 1, 1, FIRST + 2 * HOUR),))
    assert readable.known(published, SERVED)["known"].to_pylist() == [micros(FIRST + 2 * HOUR)]
    assert readable.certainty(published) == ((micros(FIRST + 2 * HOUR), "certain"),)


@pytest.mark.parametrize("group", [SEEN, WALKED], ids=lambda group: group.name)
def test_what_was_never_synced_was_never_served(group: Any) -> None:
    publish = Publish("p", group.name, 1, Interval(FIRST, FIRST + HOUR), FIRST + HOUR, "OBSERVED")
    published = Published(group, 1, "", column_types_of(group), (publish,))
    assert (len(readable.known(published, SERVED)), readable.coverage(published, SERVED), readable.certainty(published)) == (0, (), ())


@pytest.mark.parametrize("finishes", [True, False])
def test_answers_since_a_sync_of_which_the_next_found_rows_lost_are_not_sure(finishes: bool) -> None:
    at = [FIRST + n * HOUR for n in range(9)]
    first, second = (Epoch("walked", 1, n, None, 1, 1, at[n], at[n], at[n + 1]) for n in (1, 2))
    found = Epoch("walked", 1, 3, None, 1, 1, at[5], at[5], at[6] if finishes else None, found_lost=True)
    after = Epoch("walked", 1, 4, None, 1, 1, at[7], at[7], at[8])
    steps = readable.certainty(made([(0, 0)], (first, second, found, after)))
    assert [kind for since, kind in steps if since == micros(at[3])] == ["lost"]
    assert [kind for _, kind in steps].count("lost") == 1
    assert steps[-1] == (micros(at[8]), "certain")


def test_who_was_erased_is_online_again_from_the_end_of_the_sync_after_that_was_lifted() -> None:
    at = [FIRST + n * HOUR for n in range(9)]
    epochs = tuple(Epoch("walked", 1, n, None, 1, 1, at[n], at[n], at[n + 1]) for n in (0, 2, 6))
    said = [("walker", "1", at[1], False), ("walker", "1", at[2], False), ("walker", "1", at[4], True), ("walker", "1", at[8], False)]
    others = [("walker", "2", at[3], False), ("walker", "3", at[3], True), ("other", "1", at[3], False)]
    published = replace(made([(0, 0)], epochs), erasures=tuple(Erasure(*each) for each in (*said, *others)))
    assert readable.erased(published) == {
        "1": ((micros(at[1]), micros(at[7])), (micros(at[8]), readable.FOREVER)),
        "2": ((micros(at[3]), readable.FOREVER),),
    }


def test_a_state_that_was_brought_back_is_told_and_its_end_too() -> None:
    at = [FIRST + n * HOUR for n in range(6)]
    first, second = Epoch("walked", 1, 1, None, 1, 1, at[0], at[0], at[0]), Epoch("walked", 1, 2, None, 1, 1, at[2], at[2], at[2])
    back, after = Epoch("walked", 1, 3, None, 1, 1, at[0], at[3], at[3]), Epoch("walked", 1, 4, None, 1, 1, at[4], at[4], at[4])
    published = made([(0, 0), (1, 0), (2, 1)], (first, second, back, after))
    assert [kind for _, kind in readable.certainty(published)][-3:] == ["rolled back", "during a sync", "certain"]
    assert readable.known(published, SERVED)["known"].to_pylist() == [micros(at[2]), micros(at[2]), micros(at[4])]


def test_a_row_that_asks_of_who_was_erased_then_counts_as_that_and_no_other() -> None:
    at, entities = [micros(FIRST + n * HOUR) for n in range(6)], [1, 1, 1, None, 2, 1]
    batch = pa.RecordBatch.from_pydict({certainty._AT: pa.array(at), "who": pa.array(entities)})
    asked = certainty._Asked(((at[1], "certain"),), (("who",),), {"1": ((at[2], at[4]),), "2": ((at[5], readable.FOREVER),)})
    (counts,) = certainty._counting([asked])(iter([batch]))
    found = dict(zip(certainty.KINDS, (column[0].as_py() for column in counts.columns), strict=True))
    assert {kind: count for kind, count in found.items() if count} == {"certain": 4, "erased": 1, "not online": 1}
