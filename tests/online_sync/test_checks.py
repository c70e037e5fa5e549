"""What makes a sync doubt the store, and which rows it looks at again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_sync import checks
from online_sync.checks import Looked
from online_sync.codec import Row, RowSchema, encode
from online_sync.servers import Saying, warnings

SCHEMA = RowSchema((("spend", "double"),))
SERVER = Saying("run1", 5, 100, None)


def row(value: float, *, epoch: int = 1) -> bytes:
    return encode(SCHEMA, Row(event_timestamp=0, empties_at=None, held=False, tombstone=False, epoch=epoch, values=(value,)))


ROWS = [(f"k{n}", row(n)) for n in range(3)]
LOOKED = Looked(7, {"a:1": SERVER, "b:2": SERVER}, tuple(checks.sample([], ROWS, epoch=7)))
KEPT = [dict(ROWS)[each.key] for each in LOOKED.sample]


@pytest.mark.parametrize(
    ("servers", "reason"),
    [
        ({"a:1": SERVER, "b:2": SERVER}, None),
        ({"a:1": SERVER, "b:2": SERVER._replace(keys=200)}, None),
        ({"a:1": SERVER, "b:2": SERVER._replace(run_id="run2", evicted=0)}, "b:2 was restarted, or a replica took its place"),
        ({"a:1": SERVER._replace(evicted=7), "b:2": SERVER}, "a:1 evicted 2 keys"),
        ({"a:1": SERVER._replace(keys=99), "b:2": SERVER}, "a:1 has 1 keys less than before"),
        ({"a:1": SERVER, "c:3": SERVER}, "the store has other servers than before"),
    ],
)
def test_servers_give_reason_for_doubt(servers: dict[str, Saying], reason: str | None) -> None:
    assert checks.doubt(LOOKED, epoch=7, servers=servers, rows=KEPT) == reason


def test_a_sampled_row_that_is_gone_or_another_is_doubted_whichever_epoch_wrote_it() -> None:
    def doubt(rows: list[bytes | None]) -> str | None:
        return checks.doubt(LOOKED, epoch=7, servers=LOOKED.servers, rows=rows)

    assert doubt([None, *KEPT[1:]]) == "1 of 3 rows that were looked at are gone or are others"
    assert doubt([row(9.0), *KEPT[1:]]) == "1 of 3 rows that were looked at are gone or are others"
    assert doubt([KEPT[0][:18] + row(0, epoch=3)[18:27] + KEPT[0][27:], *KEPT[1:]]) is None


def test_what_was_seen_at_another_epoch_or_is_not_known_any_more_is_doubted() -> None:
    for looked in (None, replace(LOOKED, epoch=6), checks.decode(b"what"), checks.decode(b"[1,2]")):
        assert checks.doubt(looked, epoch=7, servers=LOOKED.servers, rows=KEPT) == "nothing is known of what the last sync saw"


def test_what_was_seen_comes_back_as_it_went() -> None:
    assert checks.decode(checks.encode(LOOKED)) == LOOKED


@given(st.lists(st.integers(0, 400), max_size=10), st.integers(1, 3))
def test_a_sample_is_the_same_however_the_rows_are_parted(sizes: list[int], epoch: int) -> None:
    rows = [(f"key{n}", row(n)) for n in range(sum(sizes))]
    parted, start = list[checks.Sampled](), 0
    for size in sizes:
        parted = checks.sample(parted, rows[start : start + size], epoch=epoch)
        start += size
    whole = checks.sample([], rows, epoch=epoch)
    assert parted == whole
    assert len(whole) == min(len(rows), checks.SAMPLE)


def test_each_epoch_has_a_sample_of_its_own() -> None:
    rows = [(f"key{n}", row(n)) for n in range(2000)]
    first, second = ({each.key for each in checks.sample([], rows, epoch=epoch)} for epoch in (1, 2))
    assert 300 < len(first & second) < 700


def test_a_policy_that_evicts_is_named() -> None:
    [said] = warnings({"a:1": SERVER, "b:2": SERVER._replace(evicts="allkeys-lru")})
    assert said.startswith("the online store at b:2 evicts rows once its memory is full (maxmemory-policy allkeys-lru)")


def test_keys_that_went_in_between_are_not_missed_and_those_that_others_lost_are() -> None:
    before = {"a:1": SERVER._replace(keys=90), "b:2": SERVER}
    after = {"a:1": SERVER._replace(keys=88), "b:2": SERVER}
    left = checks.without_gone(LOOKED, before, after)
    assert left is not None
    assert {address: said.keys for address, said in left.servers.items()} == {"a:1": 98, "b:2": 100}


def test_of_other_servers_it_is_not_known_which_keys_went() -> None:
    assert checks.without_gone(LOOKED, {"a:1": SERVER}, {"a:1": SERVER}) is None
    assert checks.without_gone(None, LOOKED.servers, LOOKED.servers) is None
