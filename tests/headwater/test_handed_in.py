"""Rows that are pushed to a group: online at once, kept in the lake, seen by training sets from the time of the push on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import headwater as hw
from feature_registry import rebuild
from online_sync import sync
from online_sync.servers import StoreUnavailable
from spark_jobs.ingest.parsing import FileRefused
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import Entity, Feature, FeatureService, Files, Join, ObservationGroup, Source, WindowedGroup, expression

guest = Entity("guest", {"guest": "string", "site": "int64"})
types = {"guest": "string", "site": "int64", "page": "string", "depth": "double", "at": "timestamp"}
clicks = Source("clicks", columns=types, event_timestamp="at")
judged_clicks = Source("judged_clicks", columns=types, event_timestamp="at")
file_clicks = Source("file_clicks", Files("data/*.csv"), columns=types, event_timestamp="at", timezone="UTC")
last = ObservationGroup("last", guest, clicks, columns=("page", "depth"), ttl="1d", every="1h")
judged = ObservationGroup("judged", guest, judged_clicks, columns=("depth",), ttl="1d", every="1h", expect=(expression("depth < 10"),))
of_files = ObservationGroup("of_files", guest, file_clicks, columns=("page",), ttl="1d")
counted = WindowedGroup("counted", guest, clicks, ttl="1d", features=(Feature("clicks", "count", windows=("1d",)),))
guest_v1 = FeatureService("guest_v1", joins=(Join(last),))
"""
NOW = datetime(2026, 1, 5, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
A, B = {"guest": "a", "site": 1}, {"guest": "b", "site": 1}


class Guests:
    """A project, and its clock, which goes on by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = projects.make(folder, catalog=CATALOG), NOW

    def clock(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    return Guests(tmp_path / "guests")


@pytest.fixture
def p(guests: Guests) -> Iterator[hw.Project]:
    with hw.open(guests.folder, clock=guests.clock) as opened:
        yield opened
        opened.down()


def frame(*rows: tuple[dict[str, Any], str | None, float, datetime]) -> pd.DataFrame:
    return pd.DataFrame([{**who, "page": page, "depth": depth, "at": at} for who, page, depth, at in rows])


def asked(p: hw.Project) -> list[Any]:
    """The newest page of a and b online."""
    return [each["values"]["last__page"] for each in p.online("guest_v1", [A, B])["results"]]


def test_what_is_pushed_is_online_at_once_and_in_the_lake_and_counts_once(p: hw.Project, guests: Guests) -> None:
    first = frame((A, "home", 1.0, NOW - HOUR), (B, None, float("nan"), NOW - 26 * HOUR))
    taken = p.push("last", first)
    known = guests.now
    assert (taken.rows, taken.known, asked(p)) == (2, 0, ["home", None])
    again = p.push("last", pd.concat([first, frame((A, "cart", 2.0, NOW))]))
    assert (again.rows, again.known, asked(p)) == (3, 2, ["cart", None])
    assert p.push("last", first).publish_id is None
    rows = p.read("last")
    assert list(rows["publish_id"]) == [taken.publish_id, again.publish_id, taken.publish_id]
    assert all(NOW < at <= known for at in rows["created_timestamp"][:1])
    assert p.parity("last", scope="full")[0].holds
    assert [entry.rows for entry in p._registry.ledger("last", 1).values()] == [1, 1, 1]


def test_nothing_is_computed_for_a_group_that_is_pushed_to_and_its_source_is_not_written_to(p: hw.Project, guests: Guests) -> None:
    p.push("last", frame((A, "home", 1.0, NOW - HOUR)))
    guests.now += 48 * HOUR
    assert (p.plan("last")[0].due, p.status("last")) == ((), ())
    with pytest.raises(hw.InputRefused, match="rows were pushed to last, which reads clicks"):
        p.write("clicks", frame((A, "home", 1.0, NOW)))
    assert rebuild.facts(p.settings.lake) == p._registry.facts()


def test_what_a_crash_left_in_the_lake_alone_is_online_after_the_next_sync(p: hw.Project, monkeypatch: pytest.MonkeyPatch) -> None:
    p.push("last", frame((A, "home", 1.0, NOW - HOUR)))
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(sync, "run", away)
        p.push("last", frame((A, "cart", 2.0, NOW)))
    assert asked(p) == ["home", None]
    p.sync("last")
    assert asked(p) == ["cart", None]


def test_pushes_at_the_same_time_are_all_online_once_they_are_done(guests: Guests) -> None:
    def push(name: str) -> None:
        with hw.open(guests.folder, clock=guests.clock) as mine:
            for n in range(3):
                mine.push("last", frame(({"guest": name, "site": 1}, f"{name}{n}", 1.0, NOW - HOUR + n * timedelta(minutes=1))))

    with closing(hw.open(guests.folder, clock=guests.clock)) as p:
        p.push("last", frame((A, "home", 1.0, NOW - 2 * HOUR)))
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(push, "abc"))
        assert asked(p) == ["a2", "b2"]
        assert (p.parity("last", scope="full")[0].equal, p.sync("last")[0].written) == (3, 0)
        p.down()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "parquet"])
def test_a_files_rows_are_pushed_by_the_command_as_those_of_a_frame(guests: Guests, tmp_path: Path, ending: str) -> None:
    rows, file = frame((A, "home", 1.0, NOW - HOUR), (B, "cart", 0.5, NOW - 2 * HOUR)), tmp_path / f"clicks.{ending}"
    match ending:
        case "parquet":
            rows.to_parquet(file)
        case "jsonl":
            rows.to_json(file, orient="records", lines=True, date_format="iso")
        case _:
            rows.to_csv(file, index=False)
    told = projects.within("push", "last", str(file), "--json", project=guests.folder, now=NOW).json
    assert (told["group"], told["generation"], told["rows"], told["known"]) == ("last", 1, 2, 0)
    again = projects.within("push", "last", str(file), project=guests.folder, now=NOW)
    assert (again.code, again.out) == (0, "pushed 2 rows to last (2 of them lay there already)\n")
    with hw.open(guests.folder, clock=guests.clock) as p:
        assert asked(p) == ["home", "cart"]
        p.down()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "a.csv",
            "guest,site,page,depth,at\na,1,x,1.5,2026-01-05T10:00:00Z\nb,1,x,deep,2026-01-05T10:00:00Z\n",
            "line 3 of .*a.csv cannot",
        ),
        ("a.csv", "guest,site,page,at\n", "has no column 'depth'"),
        ("a.xlsx", "", "a.xlsx is of no format that is read, by its name; push a file of CSV, JSON lines or Parquet"),
    ],
    ids=["a cell", "a column", "a workbook"],
)
def test_a_file_that_does_not_fit_is_not_pushed(p: hw.Project, tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(hw.UserError, match=sentence):
        p.push("last", tmp_path / name)
    with pytest.raises(hw.InputRefused, match="there is no file of rows at nowhere; give a file of CSV, TSV, JSON lines or Parquet"):
        p.push("last", "nowhere")


def away(*_: object, **__: object) -> None:
    raise StoreUnavailable("it is away")


@pytest.mark.parametrize(
    ("group", "rows", "sentence"),
    [
        ("last", frame((A, "x", 1.0, NOW + HOUR)), "row 1 .* none was: at is 2026-01-05T13:30:00Z, which is yet to come"),
        ("last", frame((A, "x", 1.0, NOW), ({"guest": None, "site": 1}, "x", 1.0, NOW)), "row 2 .* guest is null"),
        ("last", frame((A, "x", float("inf"), NOW)), "depth is not a finite number"),
        (
            "last",
            frame((A, "x", 1.0, NOW), (A, "y", 1.0, NOW)),
            r"there are 2 rows of guest 'a', site 1 at 2026-01-05T12:30:00Z; push one of them",
        ),
        ("last", frame((A, "other", 1.0, NOW - HOUR)), "has guest 'a', site 1 at 2026-01-05T11:30:00Z already, with page = 'home'"),
        ("counted", frame((A, "x", 1.0, NOW)), "counted is computed, so no rows are pushed to it"),
        ("of_files", frame((A, "x", 1.0, NOW)), "of_files is read from file_clicks, which has its own place"),
    ],
    ids=["to come", "null key", "infinite", "twice", "changed", "windowed", "of files"],
)
def test_what_does_not_fit_refuses_all_of_a_push(p: hw.Project, group: str, rows: pd.DataFrame, sentence: str) -> None:
    p.push("last", frame((A, "home", 1.0, NOW - HOUR)))
    with pytest.raises(hw.InputRefused, match=sentence):
        p.push(group, rows)
    assert asked(p) == ["home", None]


def test_columns_of_other_types_are_refused_in_the_words_of_an_ingest(p: hw.Project) -> None:
    with pytest.raises(FileRefused, match="the frame: column 'page' is a int64, the source says string"):
        p.push("last", frame((A, "x", 1.0, NOW)).assign(page=7))
    with pytest.raises(FileRefused, match="the frame has no column 'depth'"):
        p.push("last", frame((A, "x", 1.0, NOW)).drop(columns="depth"))


def test_rows_that_break_an_expectation_are_refused_by_the_condition_that_judges_all_rows(spark: SparkSession, p: hw.Project) -> None:
    with pytest.raises(hw.InputRefused, match=r"row 2 of the frame .* it breaks expression\('depth < 10'\)"):
        p.push("judged", frame((A, "x", 1.0, NOW), (B, "x", 10.0, NOW)))
    assert p.push("judged", frame((A, "x", 1.0, NOW))).rows == 1


@pytest.mark.parametrize("mode", ["as_known", "as_served"])
def test_a_training_set_sees_what_was_pushed_from_the_time_of_the_push_on(spark: SparkSession, guests: Guests, mode: Any) -> None:
    with closing(hw.open(guests.folder, clock=guests.clock)) as p:
        p.push("last", frame((A, "home", 1.0, NOW - 2 * HOUR)))
        before, guests.now = guests.now, guests.now + HOUR
        p.push("last", frame((A, "cart", 2.0, NOW - HOUR)))
        times = [NOW - HOUR / 2, before, before + HOUR / 2, guests.now + HOUR]
        spine = pd.DataFrame([{**A, "event_timestamp": at} for at in times])
        rows = p.training_set(spine=spine, service="guest_v1", mode=mode).to_arrow().to_pylist()
        assert [row["last__page"] for row in rows] == [None, "home", "home", "cart"]
        p.down()
