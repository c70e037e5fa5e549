"""A month of flights in a lake on S3 that fails now and then, by runs that are killed: it ends as the month in a folder does."""

from __future__ import annotations

import csv
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import headwater as hw
from examples import demo, nyc_flights
from feature_definitions import layout
from feature_registry import rebuild
from lake import delta, delta_commits, storage
from tests import s3_proxy
from tests.conftest import reached
from tests.test_everywhere import january

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

    from tests import s3

NOW = datetime(2013, 2, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
KEPT = 40
"""Of so many flights one is in the month."""
COMMIT = delta_commits.commit
OWN = {"publish_id", "created_timestamp", "replaced_by", "delta_version", "run_id", "seconds", "recorded_at"}
"""What another run of the same has otherwise."""


@pytest.fixture(scope="module")
def arrivals(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The files of the flights that landed in January, by name: few of them, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("month")
    nyc_flights.convert(january(folder / "raw"), shift=timedelta(0), into=folder / "converted")
    nyc_flights.release(folder / "converted", landing=folder / "data", now=NOW)
    found = {}
    for path in sorted((folder / "data" / "arrivals").glob("*.csv")):
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        found[path.name] = "\n".join([header, *rows[::KEPT], ""])
    first = min(found)
    found[first] += found[first].splitlines()[1].replace("2013-01-01", "2013-01-99") + "\n"
    return found


def correction(arrivals: Mapping[str, str]) -> str:
    """A file in which the flights of 10 January landed an hour later than was said."""
    header, *rows = csv.reader(next(text for name, text in arrivals.items() if "2013-01-10" in name).splitlines())
    delay = header.index("arrival_delay")
    changed = [[*row[:delay], str(int(row[delay] or 0) + 60), *row[delay + 1 :]] for row in rows]
    return "\n".join(",".join(row) for row in [header, *changed]) + "\n"


def month(folder: Path, arrivals: Mapping[str, str], *, killed: bool) -> dict[str, Any]:
    """What there is after the month was published and a day of it corrected; each step may be killed right before its commit first."""
    demo.begun(folder, domain="flights", shift=timedelta(0))
    brought(folder, arrivals)
    first = published(folder, NOW, killed=killed)
    brought(folder, {"correction.csv": correction(arrivals)})
    return {"first": first, "corrected": published(folder, LATER, killed=killed)}


def brought(folder: Path, files: Mapping[str, str]) -> None:
    place = folder / "data" / "arrivals"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text, encoding="utf-8")


def published(folder: Path, now: datetime, *, killed: bool) -> dict[str, Any]:
    """Ingest and publish what came, and tell what is there then."""
    with hw.open(folder, clock=lambda: now) as p:
        if killed:
            with killing("/sources/"), suppress(KeyboardInterrupt):
                p.ingest("arrivals")
        ingested = p.ingest("arrivals")
        if killed:
            before = seen(p)
            with killing("/features/"), pytest.raises(KeyboardInterrupt):
                p.materialize("carrier_delays")
            assert seen(p) == before
        p.materialize("carrier_delays")
        lake, registry = p.settings.lake, p._registry
        history = layout.history_table(lake, "carrier_delays", 1)
        known = {one.publish_id for one in registry.publishes("carrier_delays", 1)}
        replaced = delta.load(history).to_pylist() if delta.exists(history) else []
        assert registry.pending_publishes("carrier_delays") == registry.pending_ingests("arrivals") == ()
        assert storage.files(layout.staging(lake)) == []
        assert rebuild.facts(lake) == registry.facts()
        return {
            "quarantined": p.quarantined("carrier_delays"),
            "failed": [each.failed for each in ingested],
            "rows": seen(p),
            "replaced": plain([row for row in replaced if row["replaced_by"] in known]),
            "statuses": [(each.interval, each.status, each.rows) for each in p.status("carrier_delays")],
        }


def seen(p: hw.Project) -> list[str]:
    """What readers see of the group."""
    frame = p.read("carrier_delays")
    return plain(frame.astype(object).where(frame.notna(), None).to_dict("records"))


def plain(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(str({name: value for name, value in row.items() if name not in OWN}) for row in rows)


@contextmanager
def killing(part: str) -> Iterator[None]:
    """Whoever commits to a table with this in its path ends right before that, like a process that is interrupted."""

    def commit(table: DeltaTable, **said: Any) -> None:
        if part in delta.place(table):
            raise KeyboardInterrupt
        COMMIT(table, **said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta_commits, "commit", commit)
        yield


@pytest.fixture(scope="module")
def here(spark: SparkSession, arrivals: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:  # it runs
    """The month in a folder, undisturbed."""
    return month(tmp_path_factory.mktemp("here") / "flights", arrivals, killed=False)


@pytest.fixture(scope="module")
def there(
    spark: SparkSession, moto: s3.Server, arrivals: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """The month on S3, disturbed."""
    moto.bucket("month")
    with s3_proxy.apart(moto) as proxy, reached(spark, proxy.environment), pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADWATER_LAKE", "s3a://month/lake")
        proxy.tell(fault="tests.s3_proxy:now_and_then")
        found = month(tmp_path_factory.mktemp("there") / "flights", arrivals, killed=True)
        yield found | {"asked": len(proxy.tell(fault=""))}


def test_a_month_of_flights_on_s3_ends_as_in_a_folder_though_s3_fails_and_runs_are_killed(
    here: dict[str, Any], there: dict[str, Any]
) -> None:
    for step in ("first", "corrected"):
        assert there[step] == here[step]
    assert there["asked"] > 23 * 3
    assert len(here["first"]["statuses"]) == 31
    assert {status for _, status, _ in here["corrected"]["statuses"]} == {"OK"}
    assert here["first"]["quarantined"] == {"arrivals": 1}
    assert here["first"]["rows"] != here["corrected"]["rows"]
    assert here["corrected"]["replaced"]
