"""What a first week brings, by the command: files swapped, unfinished and broken, and a store whose rows went or are another lake's."""

from __future__ import annotations

import gzip
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from feature_definitions import layout
from online_sync.store import Store
from spark_jobs.ingest import landing
from tests import projects
from tests.projects import Done, within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import Entity, Feature, FeatureService, Files, Join, Source, WindowedGroup

shop = Entity("shop", {"shop_id": "int64"})
columns = {"shop_id": "int64", "n": "int64", "at": "timestamp"}
swapped = Source("swapped", Files("data/swapped/*.csv"), columns, event_timestamp="at", timezone="UTC")
marked = Source("marked", Files("data/marked/*.csv", complete="_SUCCESS"), columns, event_timestamp="at", timezone="UTC")
packed = Source("packed", Files("data/packed/*.csv.gz"), columns, event_timestamp="at", timezone="UTC")
sums = WindowedGroup("sums", shop, packed, ttl="2d", features=(Feature("n", "sum", "n", windows=("1d",)),))
shop_v1 = FeatureService("shop_v1", joins=(Join(sums),))
"""
HEADER = "shop_id,n,at"


def _file(*numbers: int) -> str:
    return projects.rows(*(f"{shop},{n},2026-01-05T10:{shop:02}:00Z" for shop, n in enumerate(numbers, 1)), header=HEADER)


@dataclass(frozen=True, slots=True)
class Week:
    """A project, how two ingests of it ended, and the store that it was synced to."""

    folder: Path
    first: Done
    second: Done

    def report(self, done: str, source: str) -> dict[str, Any]:
        (found,) = (each for each in getattr(self, done).json["sources"] if each["source"] == source)
        return dict(found)


@pytest.fixture(scope="module")
def week(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:  # the project shares the session
    folder = projects.make(tmp_path_factory.mktemp("week") / "p", catalog=CATALOG)
    projects.write(folder, "data/swapped/a.csv", _file(1, 2))
    projects.write(folder, "data/marked/a.csv", _file(3))
    whole = gzip.compress(_file(*range(40, 90)).encode())
    (folder / "data/packed").mkdir()
    (folder / "data/packed/good.csv.gz").write_bytes(gzip.compress(_file(5, 6).encode()))
    (folder / "data/packed/cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    real = landing.looked_again

    def swapped(look: landing.Look, **said: Any) -> landing.Look:
        """After the file was read another one is put in its place, before anything of it is kept."""
        if any("swapped" in file.name for file in look.read):
            other = projects.write(folder, "data/swapped/.new", _file(7, 8, 9))
            other.replace(folder / "data/swapped/a.csv")
        return real(look, **said)

    with patch.object(landing, "looked_again", swapped):
        first = within("ingest", "--json", project=folder)
    projects.write(folder, "data/marked/_SUCCESS", "")
    (folder / "data/packed/cut.csv.gz").write_bytes(whole)
    second = within("ingest", "--json", project=folder)
    assert within("materialize", project=folder).code == 0
    assert within("sync", project=folder).code == 0
    yield Week(folder, first, second)
    within("down", project=folder)


def test_a_file_that_is_swapped_while_it_is_read_is_left_for_the_next_time(week: Week) -> None:
    assert week.report("first", "swapped")["waiting"] == {"data/swapped/a.csv": "somebody is writing it"}
    assert week.report("first", "swapped")["rows"] == 0
    assert (week.report("second", "swapped")["rows"], week.report("second", "swapped")["waiting"]) == (3, {})


def test_files_without_the_mark_that_they_are_complete_wait_for_it(week: Week) -> None:
    assert week.report("first", "marked")["waiting"] == {"data/marked/a.csv": "there is no _SUCCESS beside it yet"}
    assert (week.report("first", "marked")["rows"], week.report("second", "marked")["rows"]) == (0, 1)


def test_a_compressed_file_that_was_cut_off_is_refused_alone_until_it_is_whole(week: Week) -> None:
    (refused,) = week.report("first", "packed")["refused"]
    assert refused.startswith("data/packed/cut.csv.gz")
    assert (week.first.code, week.report("first", "packed")["rows"]) == (2, 2)
    assert (week.second.code, week.report("second", "packed")["rows"]) == (0, 50)


def _got(folder: Path) -> tuple[int | None, str]:
    (result,) = within("get", "shop_v1", "shop_id=2", "--json", project=folder).json["results"]
    return result["values"]["sums__n_1d"], result["status"]["sums"]


def _synced(folder: Path, *flags: str) -> dict[str, Any]:
    done = within("sync", *flags, "--json", project=folder)
    assert done.code == 0, done.err
    return dict(done.json["epochs"][0])


def test_sync_repairs_what_is_gone_and_writes_all_anew_when_it_is_told_to(week: Week) -> None:
    assert _got(week.folder) == (6 + 41, "PRESENT")
    with projects.opened(week.folder) as p:
        space, url = p._space(), p.store_url()
    assert space is not None
    with closing(Store(url)) as store:
        assert store.unlink([layout.row_key(space, "sums", 1, "2")]) == 1
    assert _got(week.folder)[1] != "PRESENT"
    verified = _synced(week.folder, "--verify")
    assert (verified["compared"], verified["repaired"]) == (50, 1)
    assert _got(week.folder) == (6 + 41, "PRESENT")
    assert _synced(week.folder, "--full")["written"] == 50


def test_rows_of_another_lake_are_refused_until_they_are_taken_over(week: Week) -> None:
    file = week.folder / "lake/records/identity"
    file.unlink()
    refused = within("sync", project=week.folder)
    assert (refused.code, "--take-over" in refused.err) == (2, True)
    assert _synced(week.folder, "--take-over")["rows"] == 50
    assert _got(week.folder) == (6 + 41, "PRESENT")
