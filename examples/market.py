"""Turns daily prices of five shares into landing files, and runs them to served features: `headwater demo market`.

The raw file is stocks.csv.gz of the package bokeh_sampledata, which is only located, never imported: 12,154 trading days from 2000-03-01 to
2013-03-01. A day is known when the exchange closes, at 16:00 in New York (earlier on a few days, which the file does not tell: later is
never wrong). A question is asked at the midnight (UTC) after it: is the adjusted close higher five trading days later? It is released when
its answer is surely known, 14 days later. All times are moved by whole weeks, after conversion to UTC and chosen once per project, so
that the last day lies in the week before the project was made.
"""

import csv
import gzip
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table

from examples.demo import Stages, begun, stage_table
from examples.nyc_flights import RawDataMissing

if TYPE_CHECKING:
    from headwater.project import Project

CLOSES, NEW_YORK = time(16), ZoneInfo("America/New_York")
AHEAD, ANSWERED_AFTER = 5, timedelta(days=14)
"""How many trading days later a question is answered, and by when that surely happened."""
LAST_CLOSE = datetime(2013, 3, 1, 21, tzinfo=UTC)
SERVICE = "market_v1"
_COLUMNS = ("open", "high", "low", "close", "adj_close", "volume")
_RAW = ("Open", "High", "Low", "Close", "Adj Close", "Volume")


def raw_file() -> Path:
    """The file of raw prices inside the installed package, found without an import."""
    found = importlib.util.find_spec("bokeh_sampledata")
    for place in found.submodule_search_locations or () if found else ():
        if (file := Path(place) / "_data" / "stocks.csv.gz").is_file():
            return file
    raise RawDataMissing("The prices are in the package bokeh_sampledata, which is not installed: pip install bokeh_sampledata")


def choose_shift(now: datetime) -> timedelta:
    """The greatest whole number of weeks after which the last close is not later than `now`."""
    return (now - LAST_CLOSE) // timedelta(weeks=1) * timedelta(weeks=1)


def bars(raw: Path, *, shift: timedelta = timedelta(0)) -> list[dict[str, Any]]:
    """The trading days, by symbol and oldest first: `symbol`, `closed_at` (UTC) and the numbers as they are spelt."""
    with gzip.open(raw, "rt", encoding="utf-8") as text:
        found = [
            {"symbol": row["Ticker"], "closed_at": _closed(row["Date"]) + shift, **dict(zip(_COLUMNS, (row[n] for n in _RAW), strict=True))}
            for row in csv.DictReader(text)
        ]
    return sorted(found, key=itemgetter("symbol", "closed_at"))


def outlooks(days: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A question for each trading day that has a sure answer: `symbol`, `asked_at` (the midnight after it) and `rises`."""
    newest = max(day["closed_at"] for day in days)
    for symbol, of_symbol in groupby(days, itemgetter("symbol")):
        own = list(of_symbol)
        for now, later in zip(own, own[AHEAD:], strict=False):
            midnight = datetime.combine(now["closed_at"].date() + timedelta(days=1), time(), UTC)
            if midnight + ANSWERED_AFTER > newest:
                break
            yield {"symbol": symbol, "asked_at": midnight, "rises": float(later["adj_close"]) > float(now["adj_close"])}


def land(raw: Path, folder: Path, *, shift: timedelta = timedelta(0)) -> dict[str, int]:
    """Write `data/bars` and `data/outlooks`, a file per symbol; how many rows each has."""
    days = bars(raw, shift=shift)
    asked = list(outlooks(days))
    for source, rows in (("bars", days), ("outlooks", asked)):
        for symbol, own in groupby(rows, itemgetter("symbol")):
            write(folder / "data" / source / f"{symbol}.csv", list(own))
    return {"bars": len(days), "outlooks": len(asked)}


def run(folder: Path, *, say: Callable[[str], None], open_project: Callable[[Path], "Project"]) -> RenderableType:
    """Make or go on with the market project in `folder`, and return its summary; nothing that is OK is computed again."""
    shift = begun(folder, domain="market", shift=choose_shift(datetime.now(UTC)))
    stages = Stages(say)
    with stages.stage("land") as result:
        counts = land(raw_file(), folder, shift=shift)
        result.append(f"{counts['bars']:,} trading days, {counts['outlooks']:,} questions")
    with open_project(folder) as p:
        with stages.stage("ingest") as result:
            result.append(f"{sum(r.rows for r in p.ingest()):,} rows")
        with stages.stage("materialize: compute, judge, publish") as result:
            published = p.materialize()
            result.append(f"{sum(r.rows for r in published):,} rows in {sum(r.published for r in published):,} intervals")
        with stages.stage("sync to the online store") as result:
            result.append(f"{sum(e.rows for e in p.sync()):,} entities")
        with stages.stage("training set") as result:
            built = p.training_set("outlook")
            result.append(f"{built.rows:,} rows")
        symbols = sorted(path.stem for path in (folder / "data" / "bars").glob("*.csv"))
        served = p.online(SERVICE, [{"symbol": symbol} for symbol in symbols])["results"]
    return Group(
        "",
        "[bold]Daily prices of five shares[/], 2000-03-01 to 2013-03-01, "
        f"moved by {shift // timedelta(weeks=1)} whole weeks, so that they end now",
        stage_table(stages),
        "",
        _table(served),
        "",
        "[bold]What to try next[/]",
        f"  headwater status --project {folder}",
        f"  headwater get {SERVICE} symbol=AAPL --project {folder}",
        f"  headwater explain returns symbol=AAPL --project {folder}",
        "  feature_definitions/catalog/market: returns from the row before, averages over 20 rows and over 20 days, drawdown",
    )


def _table(served: Sequence[Any]) -> Table:
    shown = ("returns__change_4d", "returns__volatility_20rows", "trend__above_average", "trend__above_vwap", "trend__drawdown")
    table = Table("symbol", *[name.replace("__", "\n") for name in shown], box=None)
    for result in served:
        values = [result["values"][name] for name in shown]
        table.add_row(result["entity"]["symbol"], *["null" if value is None else f"{value:+.3f}" for value in values])
    return table


def _closed(day: str) -> datetime:
    return datetime.combine(datetime.fromisoformat(day).date(), CLOSES, NEW_YORK).astimezone(UTC)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One CSV file, whole, in the place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_spelt(value) for value in row.values()] for row in rows)
    part.replace(path)


def _spelt(value: object) -> object:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return str(value).lower() if isinstance(value, bool) else value
