"""How many requests S3 is asked by what only looks: none for a date, few for a group, and each log once."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake.transaction import AddAction

from feature_definitions import layout
from feature_definitions.intervals import Interval
from feature_definitions.planning import fingerprint
from feature_definitions.records import LedgerEntry, PendingIngest, PendingPublish, Publish, Revision
from lake import delta, delta_commits, storage
from tests import projects
from tests.s3_proxy import Counting, counting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    import headwater as hw
    from tests.s3 import Server

GROUPS, DATES = 6, 29
FIRST = projects.NOW.replace(hour=0) - timedelta(days=DATES)
TABLE = '{"type": "struct", "fields": [{"name": "date", "type": "date", "nullable": true, "metadata": {}}]}'


def catalog(groups: int) -> str:
    """Groups of as many entities, of one source: each has tiles of its own."""
    keys = ", ".join(f'"k{n}": "int64"' for n in range(groups))
    made = "\n".join(
        f'e{n} = Entity("e{n}", keys={{"k{n}": "int64"}})\n'
        f'g{n} = WindowedGroup("g{n}", e{n}, events, ttl="2d", features=(Feature("n", "count", windows=("3d",)),))\n'
        f's{n} = FeatureService("s{n}", joins=(Join(g{n}),))'
        for n in range(groups)
    )
    return f"""
from feature_definitions import Entity, Feature, FeatureService, Files, Join, Source, WindowedGroup
events = Source("events", Files("in/*.csv", format="csv"), columns={{{keys}, "at": "timestamp"}}, event_timestamp="at", timezone="UTC")
{made}
"""


def log_of_dates(folder: str, column: str, dates: int, *, first: datetime) -> dict[str, bytes]:
    """The files of the log of a table that got a file for each date by a commit of its own."""
    delta_commits.create(folder, TABLE.replace("date", column, 1), partition=(column,))
    for n in range(dates):
        day = (first + timedelta(days=n)).date().isoformat()
        new = AddAction(f"{column}={day}/part-0.parquet", 1000, {column: day}, 0, True, json.dumps({"numRecords": 1}))
        delta_commits.commit(delta.opened(folder), days=(), old=(), new=[new], commit_id=f"c{n}")
    return {file.name: storage.read(file.path) for file in storage.files(f"{folder}/_delta_log")}


def remembered(p: hw.Project, dates: int) -> None:
    """Tell the registry that all groups were published each day but the last."""
    registry, spans = p._registry, [Interval(FIRST + timedelta(days=n), FIRST + timedelta(days=n + 1)) for n in range(dates)]
    made = tuple(Revision("events", n + 1, s.start.date(), s.start, s.end, "h", 1, s.end) for n, s in enumerate(spans))
    registry.begin_ingest(PendingIngest("i", "events", (), made, commits=True))
    registry.finish_ingest("i")
    for name, group in p.catalog.groups.items():
        features, gate = fingerprint.columns(group), fingerprint.gate(group)
        entries = tuple(
            LedgerEntry(name, 1, s, "PUBLISHED", name, features, gate, n + 1, 2, None, (), (), name, 1.0, s.end)
            for n, s in enumerate(spans[:-1])
        )
        publishes = tuple(Publish(name, name, 1, e.interval, e.recorded_at, "OBSERVED") for e in entries)
        registry.begin_publish(PendingPublish(name, name, 1, features, entries, publishes, commits=True))
        registry.finish_publish(name, committed_at=p.clock(), delta_version=1)
        p._promote(group, 1)


def lake_of_dates(p: hw.Project, scratch: Path, dates: int, *, first: datetime = FIRST) -> list[str]:
    """Put the tables of the source and of all tiles into the lake, as far as their logs go; where they lie."""
    lake, day = p.settings.lake, timedelta(days=1)
    tiles = [layout.tile_table(lake, "events", group.entity.keys, day, day) for group in p.catalog.groups.values()]
    logs = dict.fromkeys(tiles, log_of_dates(str(scratch / "tiles"), "date", dates, first=first))
    logs[layout.source_table(lake, "events")] = log_of_dates(str(scratch / "events"), layout.DATE, dates, first=first)
    for path, log in logs.items():
        newest = max((name for name in log if "checkpoint.parquet" in name), default="")
        for name, text in log.items():
            if name == "_last_checkpoint" or name[:20] >= newest[:20]:
                storage.write(f"{path}/_delta_log/{name}", text)
    return sorted(logs)


@pytest.fixture(scope="module")
def proxy(moto: Server) -> Iterator[Counting]:
    """The proxy, by which everything reaches S3."""
    with pytest.MonkeyPatch.context() as patch, counting(moto) as made:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def folder(proxy: Counting, moto: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a lake on S3, which was published each day."""
    root = tmp_path_factory.mktemp("requests")
    made = projects.make(root / "shop", catalog=catalog(GROUPS))
    projects.write(made, "headwater.toml", f'[project]\nname = "shop"\nlake = "{moto.bucket("requests")}/lake"\n')
    with projects.opened(made) as p:
        remembered(p, DATES)
        lake_of_dates(p, root, DATES)
    return made


def asked(proxy: Counting) -> Counter[str]:
    """What was asked, each request by its verb and what it asks for."""
    counted = Counter(f"{r.verb} {r.query.get('prefix', r.key).removeprefix('lake/')}" for r in proxy.requests)
    proxy.clear()
    return counted


IS_NO_OLDER = {"HEAD records/files": 1, "GET records/files/": 1}
"""Whether the lake remembers what the registry does not know: of this lake, which has no records, that is all."""


def test_status_asks_as_much_for_many_groups_and_dates_as_for_one(proxy: Counting, folder: Path) -> None:
    with projects.opened(folder) as p:
        asked(proxy)
        assert len(p.status()) == GROUPS * DATES
        assert len(p.tables()) == GROUPS
        assert p.quarantined() == {}
        assert asked(proxy) == {"GET quarantine/": 1, **IS_NO_OLDER}


def test_a_plan_looks_once_at_the_log_of_each_table_that_it_reads(proxy: Counting, folder: Path) -> None:
    with projects.opened(folder) as p:
        asked(proxy)
        costs = p.cost(p.plan())
        counted = asked(proxy)
    assert [(each.intervals, each.files) for each in costs] == [(1, 4)] * GROUPS
    looked = {name: times for name, times in counted.items() if "_delta_log/" in name}
    assert set(looked.values()) == {1}
    assert counted.total() <= 4 * (GROUPS + 1) + 1  # what was summed up last, the list of what came then, the sum, what came then
    assert not [name for name in counted if name.endswith(".json") and int(name[-25:-5]) < DATES]  # dates cost nothing


def test_get_asks_for_the_identity_of_the_lake_alone(proxy: Counting, folder: Path) -> None:
    with projects.opened(folder) as p:
        p.store_url()
        asked(proxy)
        assert p.online("s1", [{"k1": 1}])["results"][0]["status"] == {"g1": "EXPIRED"}
        assert asked(proxy) == {"GET records/identity": 1}
        p.down()


def test_an_append_reads_the_log_from_its_newest_sum_on_and_a_look_whether_a_table_is_there_is_one_request(
    proxy: Counting, moto: Server
) -> None:
    path, rows = f"{moto.bucket('appends')}/records", pa.table({"n": [1]})
    for _ in range(23):
        delta_commits.append_records(path, rows)
    asked(proxy)
    delta_commits.append_records(path, rows)
    counted = asked(proxy)
    verbs = Counter({verb: sum(times for name, times in counted.items() if name.startswith(verb)) for verb in ("GET", "PUT")})
    assert verbs["PUT"] == 2  # the rows, and the version
    assert verbs["GET"] <= 30
    assert min(int(name[-25:-5]) for name in counted if name.endswith(".json")) == 20
    assert delta.exists(path)
    assert not delta.exists(f"{path}/none")
    assert asked(proxy).total() == 2
