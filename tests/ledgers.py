"""Projects whose registry was told what happened, without Spark: what the ledger holds is written by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from feature_definitions.intervals import Interval
from feature_definitions.planning import fingerprint
from feature_definitions.records import IntervalState, LedgerEntry, PendingIngest, PendingPublish, Publish, Revision
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import headwater as hw

CATALOG = """
from feature_definitions import Entity, Feature, FeatureService, Files, Join, Source, TrainingSet, WindowedGroup, at_least

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", Files("data/payments/*.csv", format="csv"),
    columns={"customer_id": "int64", "amount": "double", "paid_at": "timestamp"}, event_timestamp="paid_at", timezone="UTC",
)
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "amount", windows=("1d", "3d")),))
customer_v1 = FeatureService("customer_v1", joins=(Join(spend),))
churn = TrainingSet("churn", payments, customer_v1)
"""


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def one_day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(day(n), day(n + 1))


def project(folder: Path, *, now: datetime, catalog: str = CATALOG) -> hw.Project:
    """The project at `now`; its payments begin on 3 January."""
    opened = projects.opened(projects.make(folder, catalog=catalog), now=now)
    if not opened._registry.revisions("payments"):
        changed(opened, day(3), revision=1)
    return opened


def changed(p: hw.Project, first: datetime, end: datetime | None = None, *, revision: int) -> None:
    """Tell the registry that the source changed in `[first, end)`, by default on that day."""
    made = Revision("payments", revision, first.date(), first, end or first.replace(hour=23), "h", 1, p.clock())
    p._registry.begin_ingest(PendingIngest(f"i{revision}", "payments", (), (made,), commits=True))
    p._registry.finish_ingest(f"i{revision}")


def ran(p: hw.Project, states: Mapping[int, IntervalState], *, generation: int = 1, revision: int = 1, seconds: float = 1.0) -> str:
    """Tell the registry of one run that published or rejected these days, and show its generation as the front door does."""
    group = p.catalog.groups["spend"]
    publish_id = f"p{len(p._registry.facts().publishes):03d}g{generation}{'-'.join(map(str, states))}"
    entries = tuple(
        LedgerEntry(
            group="spend",
            generation=generation,
            interval=one_day(n),
            state=state,
            publish_id=publish_id,
            features=fingerprint.columns(group),
            gate=fingerprint.gate(group),
            revision=revision,
            rows=2,
            delta_version=None,
            failed=() if state == "PUBLISHED" else ("paid_1d at_least(0)",),
            warned=(),
            run_id=publish_id,
            seconds=seconds / len(states),
            recorded_at=p.clock(),
        )
        for n, state in states.items()
    )
    publishes = tuple(
        Publish(publish_id, "spend", generation, e.interval, p.clock(), "OBSERVED") for e in entries if e.state == "PUBLISHED"
    )
    p._registry.begin_publish(PendingPublish(publish_id, "spend", generation, fingerprint.columns(group), entries, publishes, commits=True))
    p._registry.finish_publish(publish_id, committed_at=p.clock(), delta_version=None)
    p._promote(group, generation)
    return publish_id
