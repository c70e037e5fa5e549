"""Daily prices become bars and questions, and the market's groups are what a person computes from the raw file by hand."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import feature_definitions
import headwater as hw
from examples import market
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import SparkSession

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def days() -> list[dict[str, Any]]:
    return market.bars(market.raw_file())


def test_a_trading_day_is_known_when_new_york_closes_in_winter_and_in_summer(days: Sequence[dict[str, Any]]) -> None:
    closed = {(day["symbol"], day["closed_at"]) for day in days}
    assert ("IBM", datetime(2000, 3, 1, 21, tzinfo=UTC)) in closed
    assert ("IBM", datetime(2000, 7, 5, 20, tzinfo=UTC)) in closed
    assert len(closed) == len(days) == 12_154


def test_every_day_is_asked_about_whose_answer_is_sure(days: Sequence[dict[str, Any]]) -> None:
    asked = Counter(question["symbol"] for question in market.outlooks(days))
    sure = [day for day in days if day["closed_at"] < datetime(2013, 2, 15, tzinfo=UTC)]
    assert asked == Counter(day["symbol"] for day in sure)
    assert sum(asked.values()) == 12_104


def test_the_last_close_lies_in_the_week_before_now_on_the_same_weekday() -> None:
    for now in (datetime(2026, 11, 20, 20, 59, tzinfo=UTC), datetime(2026, 11, 20, 21, tzinfo=UTC)):
        moved = market.LAST_CLOSE + market.choose_shift(now)
        assert now - timedelta(weeks=1) < moved <= now
        assert moved.weekday() == market.LAST_CLOSE.weekday()


def test_the_answer_is_known_when_it_is_said_to_be(days: Sequence[dict[str, Any]]) -> None:
    own = [day for day in days if day["symbol"] == "AAPL"]
    gaps = [later["closed_at"] - now["closed_at"] for now, later in zip(own, own[market.AHEAD :], strict=False)]
    assert max(gaps) == timedelta(days=13) < market.ANSWERED_AFTER


def test_landing_the_same_prices_again_writes_the_same_files(tmp_path: Path) -> None:
    market.land(market.raw_file(), tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    assert market.land(market.raw_file(), tmp_path) == {"bars": 12_154, "outlooks": 12_104}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first
    assert len(first) == 10


def test_the_features_of_a_share_are_those_computed_by_hand(spark: SparkSession, tmp_path: Path, days: Sequence[dict[str, Any]]) -> None:
    own = [day for day in days if day["symbol"] == "FB"]
    market.write(tmp_path / "data/bars/FB.csv", own)
    catalog = os.path.relpath(Path(feature_definitions.__file__).parent / "catalog" / "market", tmp_path)
    projects.write(tmp_path, "headwater.toml", f'[project]\nname = "market"\ncatalog = "{catalog}"\n')
    with hw.open(tmp_path, clock=lambda: datetime(2012, 9, 1, 6, tzinfo=UTC)) as p:
        p.ingest("bars")
        assert [done.rejected for done in p.materialize()] == [(), ()]
        returns, trend = (p.read(group).set_index("event_timestamp") for group in ("returns", "trend"))
    at = datetime(2012, 9, 1, tzinfo=UTC)
    known = [day for day in own if day["closed_at"] < at]
    price = [float(day["adj_close"]) for day in known]
    changes = [later / now - 1 for now, later in pairwise(price)]
    newest = [day for day in known if day["closed_at"] >= at - 20 * DAY]
    typical = [(float(d["high"]) + float(d["low"]) + float(d["close"])) / 3 * int(d["volume"]) for d in newest]
    vwap = sum(typical) / sum(int(d["volume"]) for d in newest)
    assert returns.loc[at, "change_4d"] == pytest.approx(changes[-1], rel=1e-12)
    assert returns.loc[at, "mean_change_20rows"] == pytest.approx(sum(changes[-20:]) / 20, rel=1e-9)
    assert trend.loc[at, "average_20rows"] == pytest.approx(sum(price[-20:]) / 20, rel=1e-12)
    assert trend.loc[at, "average_20d"] == pytest.approx(sum(float(d["adj_close"]) for d in newest) / len(newest), rel=1e-12)
    assert trend.loc[at, "above_vwap"] == pytest.approx(float(known[-1]["close"]) / vwap - 1, rel=1e-9)
    assert trend.loc[at, "drawdown"] == pytest.approx(price[-1] / max(price) - 1, rel=1e-12)
    assert len(returns) == len(trend) == (at - datetime(2012, 5, 18, tzinfo=UTC)).days


def test_what_a_model_reads_does_not_move_when_later_splits_rewrite_the_prices() -> None:
    from feature_definitions.catalog.market.services import market_v1

    prices = {"adj_close_10d", "average_20d", "average_20rows", "average_200rows", "peak_365d", "close_10d", "traded_20d", "vwap_20d"}
    assert not prices & {column.split("__")[1] for column in market_v1.outputs}
