"""What is kept in the lake comes back as the record it was, also from rows that older code wrote."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import layout
from feature_definitions.intervals import Interval
from feature_definitions.records import (
    Committed,
    IngestedFile,
    LedgerEntry,
    PendingIngest,
    PendingPublish,
    Promotion,
    Publish,
    Release,
    Revision,
)
from lake import facts, storage
from lake.facts import FactTable

T = datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC)
DAY = Interval(T, T.replace(day=6))
ENTRY = LedgerEntry(
    "spend", 1, DAY, "PUBLISHED", "p1", {"b": "1", "a": "2"}, "g", 3, 10, None, ("a",), (), "r", 0.5, T, inputs={"visits": "9"}
)
REJECTED = LedgerEntry("spend", 1, DAY, "REJECTED", "p1", {}, "g", 3, 0, None, (), ("w",), "r", 0.5, T)
PUBLISH = Publish("p1", "spend", 1, DAY, T, "OBSERVED")
FILE = IngestedFile("payments", "data/ä.csv", "f00", 10, 1, "i1")
REVISION = Revision("payments", 1, date(2026, 1, 5), T, T.replace(day=6), "c", 7, T)
PROMOTION = Promotion("spend", 1, 2, 3, "person", T)
RELEASE = Release("spend", 1, DAY, 3, "looked at it", T)
COMMIT = Committed("spend", 1, "p1", T, None, '{"paid": 0}')


def no_fence() -> None:
    """Nobody takes the lease."""


def kept(kind: FactTable[Any], lake: str, **elsewhere: object) -> list[object]:
    return [kind.rows.record(row, **elsewhere) for row in kind.read(lake)]


def test_what_is_kept_comes_back(lake: str) -> None:
    facts.keep_publish(lake, PendingPublish("p1", "spend", 1, {}, (ENTRY, REJECTED), (PUBLISH,), commits=True), fence=no_fence)
    facts.keep_ingest(lake, PendingIngest("i1", "payments", (FILE,), (REVISION,), commits=True))
    facts.keep_commit(lake, COMMIT, fence=no_fence)
    facts.keep_promotion(lake, PROMOTION, fence=no_fence)
    facts.keep_releases(lake, [RELEASE], fence=no_fence)
    assert kept(facts.LEDGER, lake, delta_version=None) == [ENTRY, REJECTED]
    assert list(kept(facts.LEDGER, lake, delta_version=None)[0].features) == ["b", "a"]  # type: ignore[attr-defined]
    assert [row["commits"] for row in facts.LEDGER.read(lake)] == [True, False]
    assert kept(facts.PUBLISHES, lake) == [PUBLISH]
    assert kept(facts.FILES, lake) == [FILE]
    assert kept(facts.REVISIONS, lake) == [REVISION]
    assert [row["ingest_id"] for row in facts.REVISIONS.read(lake)] == ["i1"]
    assert kept(facts.PROMOTIONS, lake) == [PROMOTION]
    assert kept(facts.RELEASES, lake) == [RELEASE]
    assert facts.kept_commit(lake, "p1") == COMMIT
    assert facts.kept_commit(lake, "p2") is None


def test_a_lake_without_records_holds_nothing(lake: str) -> None:
    assert facts.LEDGER.read(lake) == []
    assert facts.kept_commit(lake, "p1") is None


def test_nothing_to_keep_makes_no_table(lake: str) -> None:
    facts.keep_ingest(lake, PendingIngest("i1", "payments", (), (), commits=True))
    assert storage.files(lake) == []


TIME = pa.timestamp("us", tz="UTC")
FIXED = [
    ("group", pa.string()), ("generation", pa.int64()), ("interval_start", TIME), ("interval_end", TIME), ("publish_id", pa.string()),
]  # fmt: skip
OLD_LEDGER = [
    *FIXED, ("state", pa.string()), ("features", pa.map_(pa.string(), pa.string())), ("gate", pa.string()), ("revision", pa.int64()),
    ("rows", pa.int64()), ("failed", pa.list_(pa.string())), ("warned", pa.list_(pa.string())), ("run_id", pa.string()),
    ("seconds", pa.float64()), ("recorded_at", TIME), ("inputs", pa.string()), ("commits", pa.bool_()),
]  # fmt: skip
"""The columns as 6f5afdf wrote them."""
OLD_ENTRY = {
    "group": "spend", "generation": 1, "interval_start": DAY.start, "interval_end": DAY.end, "publish_id": "p1", "state": "PUBLISHED",
    "features": [("b", "1"), ("a", "2")], "gate": "g", "revision": 3, "rows": 10, "failed": ["a"], "warned": [], "run_id": "r",
    "seconds": 0.5, "recorded_at": T, "inputs": '{"visits": "9"}', "commits": True,
}  # fmt: skip


@pytest.mark.parametrize("lacking", [(), ("inputs",)], ids=["6f5afdf", "before there were transforms"])
def test_rows_that_older_code_wrote_are_read_and_new_ones_lie_beside_them(lake: str, lacking: tuple[str, ...]) -> None:
    schema = pa.schema([column for column in OLD_LEDGER if column[0] not in lacking])
    old = pa.Table.from_pylist([{name: value for name, value in OLD_ENTRY.items() if name not in lacking}], schema=schema)
    write_deltalake(layout.records_table(lake, "ledger"), old, storage_options=storage.options(lake))
    facts.keep_publish(lake, PendingPublish("p1", "spend", 1, {}, (REJECTED,), (), commits=True), fence=no_fence)
    found = sorted(kept(facts.LEDGER, lake, delta_version=None), key=lambda entry: entry.state)  # type: ignore[attr-defined]
    before = LedgerEntry(**({name: getattr(ENTRY, name) for name in ENTRY.__slots__} | ({"inputs": {}} if lacking else {})))
    assert found == [before, REJECTED]


def test_commits_that_older_code_wrote_have_no_empty_values(lake: str) -> None:
    old = [FIXED[0], FIXED[1], FIXED[4], ("committed_at", TIME), ("delta_version", pa.int64())]
    row = {"group": "spend", "generation": 1, "publish_id": "p0", "committed_at": T, "delta_version": 4}
    rows = pa.Table.from_pylist([row], schema=pa.schema(old))
    write_deltalake(layout.records_table(lake, "commits"), rows, storage_options=storage.options(lake))
    assert facts.kept_commit(lake, "p0") == Committed("spend", 1, "p0", T, 4)
    facts.keep_commit(lake, COMMIT, fence=no_fence)
    assert facts.kept_commit(lake, "p0") == Committed("spend", 1, "p0", T, 4)
    assert facts.kept_commit(lake, "p1") == COMMIT
