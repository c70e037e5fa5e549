"""A training set that is read as it was served equals what a recorded client got: over days, late data, corrections and an outage."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from feature_definitions import FeatureService, Join, layout
from feature_definitions.reading import CASES, to_json
from lake.readable import AsOf, certainty
from online_sync import sync
from online_sync.store import Store
from serving import answer
from serving.request import compile_service
from spark_jobs.training.certainty import certainties
from spark_jobs.training.join import CASE, JoinAsked, joined
from spark_jobs.training.spine import of_frame
from tests.online_sync.stories import FIRST, HOUR, SEEN, UTC_TIME, WALKED, Story

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.records import Epoch

SPACE = layout.KeySpace("shop", "lakelake")
SERVICE = FeatureService("both", joins=(Join(SEEN), Join(WALKED)))
PLAN = compile_service(SERVICE)
WALKERS = (1, 2, 3, 99)


class CutOff(Exception):
    """A sync that ends in its middle."""


@dataclass
class Week:
    """Two groups and one store over days: a clock that goes on by itself, syncs, and a client whose every answer is kept."""

    url: str
    stories: tuple[Story, Story]
    now: datetime = FIRST + 3 * HOUR
    epochs: dict[str, dict[int, Epoch]] = field(default_factory=lambda: {"seen": {}, "walked": {}})
    answers: dict[tuple[datetime, int], dict[str, Any]] = field(default_factory=dict)
    meanwhile: dict[str, set[datetime]] = field(default_factory=lambda: {"seen": set(), "walked": set()})
    under_way: str = ""

    def clock(self) -> datetime:
        """A second passes with each look."""
        self.now += timedelta(seconds=1)
        return self.now

    def ask(self) -> datetime:
        """Ask for everybody, and keep what is answered."""
        at = self.clock()
        with closing(Store(self.url)) as store:
            found = answer.fetch(PLAN, [{"walker": walker} for walker in WALKERS], space=SPACE, mget=store.mget, now=at)
        self.answers |= {(at, walker): dict(one) for walker, one in zip(WALKERS, found, strict=True)}
        return at

    def sync(self) -> None:
        """Sync both groups, as `Project.sync` does."""
        target = sync.Target(self.url, SPACE, "")
        for story in self.stories:
            known = self.epochs[story.group.name]
            self.under_way = story.group.name
            look, past = sync.look(story.published, target=target, now=self.clock()), [e for e in known.values() if e.finished]
            ledger = sync.Ledger(lambda epoch: self.epochs[epoch.group].update({epoch.epoch: epoch}), self.clock)
            work = sync.Work(max(known, default=0) + 1, self.clock(), past[-1] if past else None, "as needed", ledger)
            sync.run(story.published, look, target=target, work=work, spark=lambda: pytest.fail("no Spark"))

    def hour(self, hour: int, value: float, walkers: tuple[int, ...] = (1, 2, 3)) -> None:
        """Publish an hour of both groups, in the first or a corrected form."""
        start, (seen, walked) = FIRST + hour * HOUR, self.stories
        seen.publish(start, {(walker, start + HOUR / 2): value for walker in walkers}, known=self.clock())
        kept = {name: row["far_2h"] for name, row in walked.rows.items() if row["start"] == start}
        walked.publish(start, kept | {(walker, start + HOUR): value for walker in walkers}, known=self.clock())

    @property
    def published(self) -> dict[str, Any]:
        """The groups with the ledger of their syncs."""
        return {s.group.name: replace(s.published, epochs=tuple(self.epochs[s.group.name].values())) for s in self.stories}


def lived(week: Week, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours on time, a late one, corrections, a row taken back, an outage longer than the TTL, and a sync that is cut off."""
    week.ask()
    for hour in range(3):
        week.now = max(week.now, FIRST + (hour + 1) * HOUR)
        week.hour(hour, float(hour), (1, 2) if hour == 1 else (1, 2, 3))
        week.ask()
        week.sync()
        week.ask()
    week.hour(1, 7.0)
    week.ask()
    week.sync()
    week.hour(2, 9.0, (1, 3))
    week.ask()
    week.sync()
    week.ask()
    week.now += 4 * HOUR
    week.ask()
    for hour in range(3, 7):
        week.hour(hour, 20.0 + hour, (1,) if hour < 6 else (1, 2))
    week.ask()
    with monkeypatch.context() as patch:
        patch.setattr(sync, "Store", cutting(week))
        with pytest.raises(CutOff):
            week.sync()
    week.meanwhile["seen"].add(week.ask())
    week.hour(6, 31.0, (1, 2))
    week.meanwhile["seen"].add(week.ask())
    with monkeypatch.context() as patch:
        patch.setattr(sync, "Store", asking(week))
        week.sync()
    week.ask()


def cutting(week: Week) -> type[Store]:
    """A store that is gone once some rows were written."""

    class Cutting(Store):
        def put_rows(self, rows: Any, **how: Any) -> str:
            super().put_rows(rows[:1], **how)
            week.meanwhile[week.under_way].add(week.ask())
            raise CutOff

    return Cutting


def asking(week: Week) -> type[Store]:
    """A store that is asked while rows are written."""

    class Asking(Store):
        def put_rows(self, rows: Any, **how: Any) -> str:
            done = "".join(super(Asking, self).put_rows([row], **how) for row in rows)
            week.meanwhile[week.under_way].add(week.ask())
            return done

    return Asking


def served(week: Week, spark: SparkSession) -> tuple[dict[tuple[datetime, int], dict[str, Any]], dict[str, dict[str, int]]]:
    """What a training set of all these questions has, with its statuses; and how sure that is."""
    asked, published = list(week.answers), week.published
    columns = {"walker": pa.array([w for _, w in asked], pa.int64()), "event_timestamp": pa.array([at for at, _ in asked], UTC_TIME)}
    spine = of_frame(pa.table(columns), spark)
    rows = joined(
        spine.rows, [JoinAsked(j, published[j.group.name], AsOf("as_served", strict=True)) for j in SERVICE.joins], at=spine.at, spark=spark
    )
    found = {(row["event_timestamp"], row["walker"]): row for row in rows.toArrow().to_pylist()}
    return found, certainties(spine, published, SERVICE.joins)


def test_a_training_set_has_what_a_client_really_got_and_names_what_it_asked_while_a_sync_ran(
    spark: SparkSession, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    week = Week(url, (Story(SEEN, str(tmp_path / "lake")), Story(WALKED, str(tmp_path / "lake"))))
    lived(week, monkeypatch)
    rows, sure = served(week, spark)
    wrong, statuses = [], set()
    for (at, walker), got in week.answers.items():
        for name in ("seen", "walked"):
            status, values = got["status"][name], {n: value for n, value in got["values"].items() if n.startswith(f"{name}__")}
            row = rows[at, walker]
            found = CASES[row[f"{CASE}{name}"]].status, {n: to_json(row[n]) for n in values}
            if at not in week.meanwhile[name]:
                statuses.add(status)
                wrong += [] if found == (status, values) else [(at, walker, found, status, values)]
    assert wrong == []
    assert statuses == {"PRESENT", "EXPIRED", "NOT_FOUND", "EMPTY"}
    for name, counts in sure.items():
        assert counts["during a sync"] == len(week.meanwhile[name]) * len(WALKERS)
        assert sum(counts.values()) == len(week.answers)
    assert [len(found) > 0 for found in week.meanwhile.values()] == [True, True]
    assert {certainty(each)[-1][1] for each in week.published.values()} == {"certain"}
