"""A project whose lake was written by hand: what syncs, compares, and goes back needs no Spark."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis

import headwater as hw
from feature_definitions import layout
from feature_definitions.errors import InputRefused, Unknown
from feature_definitions.records import Generation, Promotion, RegistryFacts
from feature_registry import open_registry, rebuild
from online_sync import sync
from online_sync.codec import RowSchema, decode
from online_sync.erasing import Erased
from online_sync.servers import StoreUnavailable
from online_sync.store import Store
from online_sync.sync import ClockBehind, SyncOvertaken, TooMuchMemory
from tests import projects
from tests.online_sync.stories import FIRST, HOUR, SEEN, Story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

CATALOG = """
from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source
walker = Entity("walker", {"walker": "int64"})
steps = Source("steps", columns={"walker": "int64", "pace": "double", "at": "timestamp"}, event_timestamp="at")
seen = ObservationGroup("seen", walker, steps, columns=("pace",), ttl="9h", every="1h")
kept = ObservationGroup("kept", walker, steps, columns=("pace",), ttl="9h", every="1h", online=False)
seen_v1 = FeatureService("seen_v1", joins=(Join(seen),))
"""


class Walks:
    """A project, its lake's past, and its clock."""

    def __init__(self, root: Path) -> None:
        projects.make(root, catalog=CATALOG)
        self.root, self.story, self.now = root, Story(SEEN, str(root / "lake")), FIRST

    def hour(self, hour: int, **walkers: float) -> None:
        """Publish an hour of walkers w1, w2, ..., and let it become known."""
        start = FIRST + hour * HOUR
        self.now = start + HOUR
        rows: dict[tuple[int, datetime], float] = {(int(name[1:]), start + HOUR / 2): pace for name, pace in walkers.items()}
        self.story.publish(start, rows, known=self.now)
        self.now += timedelta(minutes=1)
        with open_registry(f"sqlite:///{self.root / 'registry.db'}") as registry:
            known, shows = Generation("seen", 1, {}, True, FIRST + HOUR, None), Promotion("seen", 1, 1, 1, "automatic", self.now)
            registry.restore(RegistryFacts(publishes=tuple(self.story.publishes), generations=(known,), promotions=(shows,)))

    def asked(self, p: hw.Project) -> list[Any]:
        """What is online of walkers 1 to 3."""
        found = p.online("seen_v1", [{"walker": walker} for walker in (1, 2, 3)])["results"]
        return [each["values"]["seen__pace"] for each in found]


@pytest.fixture
def walks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walks]:
    made = Walks(tmp_path / "walks")
    monkeypatch.setenv("HEADWATER_REGISTRY_URL", f"sqlite:///{made.root / 'registry.db'}")
    monkeypatch.setenv("HEADWATER_LAKE", made.story.lake)
    yield made
    with closing(opened(made)) as p:
        p.down()


def opened(walks: Walks) -> hw.Project:
    return hw.open(walks.root, clock=lambda: walks.now)


def test_the_sync_before_the_last_is_brought_back_until_the_next_one(walks: Walks) -> None:
    walks.hour(0, w1=1.0, w2=1.0)
    with closing(opened(walks)) as p:
        [first] = p.sync()
    walks.hour(1, w1=2.0, w3=2.0)
    with closing(opened(walks)) as p:
        [second] = p.sync()
        assert walks.asked(p) == [2.0, 1.0, 2.0]
        back = p.rollback("seen")
        assert (walks.asked(p), back.synced_at, back.epoch) == ([1.0, 1.0, None], first.synced_at, 3)
        assert p.parity("seen", scope="full")[0].holds
        [again] = p.sync()
        assert (walks.asked(p), again.rows) == ([2.0, 1.0, 2.0], second.rows)
        assert [(each.epoch, each.begun_at, each.ended_at) for each in p._registry.epochs("seen")] == [
            (n, at, at) for n, at in enumerate([first.synced_at, *[walks.now] * 3], 1)
        ]


def test_syncs_are_found_in_the_lake_those_too_that_an_older_headwater_kept_in_the_registry_alone(walks: Walks) -> None:
    walks.hour(0, w1=1.0)
    with closing(opened(walks)) as p:
        p.sync()
        shutil.rmtree(layout.records_table(walks.story.lake, "epochs"))
    walks.hour(1, w1=2.0)
    with closing(opened(walks)) as p:
        p.sync()
        known = p._registry.epochs("seen")
        assert (len(known), rebuild.facts(walks.story.lake).epochs) == (2, known)
        assert all(each.begun_at is not None and each.ended_at is not None for each in known)


def test_there_is_nothing_to_go_back_to_before_a_second_sync(walks: Walks) -> None:
    walks.hour(0, w1=1.0)
    with closing(opened(walks)) as p:
        p.sync()
        with pytest.raises(Unknown, match="no sync of seen before the last one is known"):
            p.rollback("seen")


def test_what_differs_is_found_and_repaired(walks: Walks) -> None:
    walks.hour(0, w1=1.0, w2=1.0, w3=3.0)
    with closing(opened(walks)) as p:
        p.sync()
        with closing(Store(p.store_url())) as store:
            keys = [key for found in store.keys("*{2}") for key in found]
            assert store.unlink(keys) == 1
        [found] = p.parity()
        assert (found.holds, found.missing, found.equal) == (False, 1, 2)
        [repaired] = p.parity(then="repair")
        assert (repaired.holds, walks.asked(p)) == (True, [1.0, 1.0, 3.0])


def test_the_command_ends_with_1_where_rows_differ_and_with_0_once_they_are_repaired(walks: Walks) -> None:
    walks.hour(0, w1=1.0, w2=1.0)
    with closing(opened(walks)) as p:
        assert projects.within("parity", "--json", project=walks.root).json == {"groups": []}
        p.sync()
        with closing(Store(p.store_url())) as store:
            store.unlink([key for found in store.keys("*{1}") for key in found])
    codes = [projects.within("parity", *words, project=walks.root).code for words in ((), ("--repair",), ("--full",))]
    assert codes == [1, 0, 0]


def test_a_sync_that_leaves_rows_that_differ_says_so_and_ends_with_1(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetting(Store):
        """A store that loses the first row that it is given."""

        def put_rows(self, rows: Any, **how: Any) -> str:
            return "g" + super().put_rows(rows[1:], **how)

    walks.hour(0, w1=1.0, w2=1.0, w3=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(sync, "Store", Forgetting)
        done = projects.within("sync", "--json", project=walks.root, now=walks.now)
    assert (done.code, done.json["epochs"][0]["parity"]["missing"], done.json["epochs"][0]["parity"]["equal"]) == (1, 1, 2)
    assert "repair it: headwater parity --repair seen" in done.err.replace("\n", " ")
    again = projects.within("sync", "--json", project=walks.root, now=walks.now)
    assert (again.code, again.json["epochs"][0]["repaired"], again.json["epochs"][0]["parity"]["equal"]) == (0, 1, 3)
    calm = projects.within("sync", "--json", project=walks.root, now=walks.now).json["epochs"][0]
    assert (calm["parity"]["compared"], calm["parity"]["equal"]) == (3, 3)


def test_a_sync_of_few_rows_loads_no_package_only_because_it_is_installed(walks: Walks) -> None:
    walks.hour(0, w1=1.0)
    loaded = "import atexit, sys; atexit.register(lambda: print({'pandas', 'opentelemetry'} & set(sys.modules), file=sys.stderr))\n"
    named = {name: os.environ[name] for name in ("HEADWATER_LAKE", "HEADWATER_REGISTRY_URL")}
    done = projects.command("sync", "--json", "--project", walks.root, before=loaded, **named)
    assert (done.code, done.json["epochs"][0]["written"], done.err.splitlines()[-1]) == (0, 1, "set()")


def row_of(p: hw.Project, walker: int) -> bytes | None:
    """What lies online of a walker."""
    space = p._space()
    assert space is not None
    with closing(Store(p.store_url())) as store:
        return store.mget([layout.row_key(space, "seen", 1, str(walker))])[0]


def test_who_is_erased_is_gone_at_once_and_no_sync_brings_them_back_until_that_is_lifted(walks: Walks) -> None:
    walks.hour(0, w1=7.0, w2=1.0, w3=1.0)
    with closing(opened(walks)) as p:
        p.sync()
        assert p.erase("walker", {"walker": 1}) == (Erased("seen", "erased", 2),)
        assert walks.asked(p) == [None, 1.0, 1.0]
        [calm] = p.sync()
        assert (calm.compared, calm.reason, calm.written, calm.rows) == (2, None, 0, 3)
    walks.hour(1, w1=8.0, w2=2.0)
    with closing(opened(walks)) as p:
        for depth in ("as needed", "verify", "full"):
            [done] = p.sync(depth=depth)
            assert (walks.asked(p), done.holds, p.parity(scope="full")[0].holds) == ([None, 2.0, 1.0], True, True)
        row = row_of(p, 1)
        assert row is not None
        assert decode(RowSchema((("pace", "double"),)), row).values == (None,)
        walks.now += timedelta(minutes=1)
        [lifted] = p.lift_erasure("walker", {"walker": 1})
        assert (walks.asked(p), lifted.written) == ([8.0, 2.0, 1.0], 1)
        assert [each.ended_at is not None for each in p._registry.epochs("seen")] == [True] * len(p._registry.epochs("seen"))


def test_who_was_erased_while_the_store_was_away_is_gone_after_the_next_sync(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    walks.hour(0, w1=7.0, w2=1.0)
    with closing(opened(walks)) as p:
        p.sync()
        with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
            patch.setattr(sync, "Store", away)
            p.erase("walker", {"walker": 1})
        assert walks.asked(p) == [7.0, 1.0, None]
        p.sync()
        assert walks.asked(p) == [None, 1.0, None]


def test_who_is_erased_while_the_store_is_full_is_gone_all_the_same(walks: Walks) -> None:
    walks.hour(0, w1=7.0, w2=1.0)
    with closing(opened(walks)) as p:
        p.sync()
        with closing(redis.Redis.from_url(p.store_url())) as client:
            client.config_set("maxmemory", "1")
            with pytest.raises(StoreUnavailable, match="is full"):
                p.erase("walker", {"walker": 1})
            assert walks.asked(p) == [None, 1.0, None]
            client.config_set("maxmemory", "0")
        [done] = p.sync()
        assert (walks.asked(p), done.holds) == ([None, 1.0, None], True)


def away(_: str, **how: float) -> Store:
    raise StoreUnavailable("it is away")


def test_a_group_that_is_offline_from_now_on_is_taken_from_the_store(walks: Walks) -> None:
    walks.hour(0, w1=7.0, w2=1.0)
    with closing(opened(walks)) as p:
        p.sync()
        url = p.store_url()
    projects.make(walks.root, catalog=CATALOG.replace('every="1h")', 'every="1h", online=False)').partition("seen_v1 =")[0])
    said: list[str] = []
    with closing(hw.open(walks.root, say=said.append, clock=lambda: walks.now)) as p, closing(Store(url)) as store:
        [before] = store.keys("hw:*:seen*")
        assert (len(before), p.sync(), list(store.keys("hw:*:seen*"))) == (4, (), [])
        p.sync()
    assert said == ["seen has online=False now: its 4 keys were deleted from the online store"]


def test_a_group_that_left_the_catalog_is_told_of_and_goes_as_one_that_is_offline(walks: Walks) -> None:
    walks.hour(0, w1=7.0, w2=1.0)
    with closing(opened(walks)) as p:
        p.sync()
    renamed = CATALOG.replace('seen = ObservationGroup("seen"', 'seen = ObservationGroup("met"')
    offline = f"{renamed}old = ObservationGroup('seen', walker, steps, columns=('pace',), ttl='9h', every='1h', online=False)"
    said: list[str] = []
    for catalog in (renamed, offline, renamed):
        projects.make(walks.root, catalog=catalog)
        with closing(hw.open(walks.root, say=said.append, clock=lambda: walks.now)) as p:
            assert p.sync() == ()
    told, done = said
    assert told.startswith("seen is online and not in the catalog, so nothing renews it; to delete it there, put it back with online=False")
    assert done == "seen has online=False now: its 4 keys were deleted from the online store"


def test_the_first_sync_of_a_renamed_project_tells_of_the_rows_under_its_old_name(walks: Walks) -> None:
    walks.hour(0, w1=7.0)
    said: list[str] = []
    for name in ("shop", "store", "store"):
        projects.write(walks.root, "headwater.toml", f'[project]\nname = "{name}"\n')
        with closing(hw.open(walks.root, say=said.append, clock=lambda: walks.now)) as p:
            p.sync()
            assert walks.asked(p) == [7.0, None, None]
    [told] = [each for each in said if "shop" in each]
    assert told.startswith("the online store has rows of this lake under the project name shop; if that was this project's name, nothing")


def test_a_clock_that_is_behind_takes_no_hour_back_unless_it_is_said_to_be_right(walks: Walks) -> None:
    walks.hour(0, w1=1.0)
    walks.hour(1, w1=2.0)
    with closing(opened(walks)) as p:
        [done] = p.sync()
        walks.now -= HOUR
        with pytest.raises(ClockBehind, match=r"synced at 2026-01-06 00:01:00 UTC, and .* it is 2026-01-05 23:01:00: set .* sync --full"):
            p.sync()
        assert walks.asked(p) == [2.0, None, None]
        walks.now += HOUR - timedelta(seconds=50)
        assert p.sync()[0].epoch == done.epoch
        walks.now -= HOUR
        assert (p.sync(depth="full")[0].written, walks.asked(p)) == (1, [1.0, None, None])


def test_a_sync_that_runs_while_somebody_is_erased_does_not_bring_them(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    walks.hour(0, w1=7.0, w2=1.0)
    done: list[Erased] = []

    class Meanwhile(Store):
        """A store that is about to get its rows when somebody is erased."""

        def put_rows(self, rows: Any, **how: Any) -> str:
            monkeypatch.setattr(sync, "Store", Store)
            with closing(opened(walks)) as other:
                done.extend(other.erase("walker", {"walker": 1}))
            return super().put_rows(rows, **how)

    with closing(opened(walks)) as p:
        p.sync()
        monkeypatch.setattr(sync, "Store", Meanwhile)
        with pytest.raises(SyncOvertaken):
            p.sync(depth="full")
        assert (done, walks.asked(p)) == ([Erased("seen", "a sync runs")], [None, 1.0, None])
        p.sync()
        assert walks.asked(p) == [None, 1.0, None]


def test_a_sync_that_begins_after_somebody_was_erased_hears_of_it(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    walks.hour(0, w1=7.0, w2=1.0)
    with closing(opened(walks)) as p:
        p.sync()
    real = Store.begin_epoch

    def begin(store: Store, coming: Any, **how: Any) -> Any:
        monkeypatch.setattr(Store, "begin_epoch", real)
        with closing(opened(walks)) as other:
            assert other.erase("walker", {"walker": 1})[0].state == "erased"
        return real(store, coming, **how)

    with closing(opened(walks)) as p:
        monkeypatch.setattr(Store, "begin_epoch", begin)
        p.sync(depth="full")
        assert walks.asked(p) == [None, 1.0, None]


@pytest.mark.parametrize("between", ["look", "begin_epoch"])
def test_a_sync_that_knew_less_than_one_that_came_and_went_takes_nothing_back(
    walks: Walks, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    walks.hour(0, w1=1.0)
    with closing(opened(walks)) as p:
        p.sync()
    walks.hour(1, w1=2.0, w2=2.0)
    place: Any = sync if between == "look" else Store
    real, others = getattr(place, between), []

    def late(*given: Any, **how: Any) -> Any:
        monkeypatch.setattr(place, between, real)
        walks.hour(2, w1=3.0, w3=3.0)
        with closing(opened(walks)) as other:
            others.extend(other.sync())
        return real(*given, **how)

    with closing(opened(walks)) as p:
        monkeypatch.setattr(place, between, late)
        [done] = p.sync(depth="full")
        assert (walks.asked(p), done.coverage) == ([3.0, 2.0, 3.0], others[0].coverage)
        assert done.epoch > others[0].epoch


def test_a_sync_that_others_overtake_again_and_again_says_so(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    walks.hour(0, w1=1.0)
    real = Store.begin_epoch

    def late(store: Store, coming: Any, **how: Any) -> Any:
        real(store, coming)
        return real(store, coming, **how)

    with closing(opened(walks)) as p:
        monkeypatch.setattr(Store, "begin_epoch", late)
        with pytest.raises(SyncOvertaken, match="another sync of seen has begun or finished since its publishes were read"):
            p.sync()
        assert walks.asked(p) == [None, None, None]


def test_the_command_says_what_the_lake_keeps_of_who_is_erased_and_refuses_who_is_none(walks: Walks) -> None:
    walks.hour(0, w1=7.0)
    with closing(opened(walks)) as p:
        p.sync()
    said = projects.within("erase", "walker", "walker=1", project=walks.root, now=walks.now)
    assert (said.code, "features/seen/g1" in said.out.replace("\n", "")) == (0, True)
    lifted = projects.within("erase", "walker", "walker=1", "--lift", "--json", project=walks.root, now=walks.now + HOUR).json
    assert lifted["groups"] == [{"group": "seen", "state": "online", "epoch": 3}]
    wrong = [("walker", "walker=x"), ("runner", "walker=1"), ("walker", "step=1")]
    assert [projects.within("erase", *words, project=walks.root).code for words in wrong] == [2, 2, 2]


def test_a_group_that_stays_offline_is_left_out_and_refused_by_name(walks: Walks) -> None:
    walks.hour(0, w1=1.0)
    with closing(opened(walks)) as p:
        assert [each.group for each in p.sync()] == ["seen"]
        with pytest.raises(InputRefused, match="kept has online=False: its rows are for training alone"):
            p.sync("kept")


def test_a_group_that_would_take_more_memory_than_is_allowed_is_refused_before_its_first_row(walks: Walks) -> None:
    walks.hour(0, w1=1.0, w2=1.0)
    with closing(opened(walks)) as p:
        with pytest.raises(TooMuchMemory, match=r"seen would take about \d+ bytes .* \(2 entities of \d+\), and 200 are allowed"):
            p.sync(limit="200B")
        with pytest.raises(InputRefused, match="'lots' is no size; write a whole number and a unit, like 500MB"):
            p.sync(limit="lots")
        assert walks.asked(p) == [None, None, None]
        [done] = p.sync(limit="1kB")
        assert done.bytes is not None
        assert 2 * 100 < done.bytes < 2 * 400


def test_a_sync_that_needs_no_spark_does_not_load_it(walks: Walks) -> None:
    walks.hour(0, w1=1.0)
    before = "import atexit, sys; atexit.register(lambda: print('loaded:', 'pyspark' in sys.modules, file=sys.stderr))\n"
    variables = {"HEADWATER_LAKE": walks.story.lake, "HEADWATER_REGISTRY_URL": f"sqlite:///{walks.root / 'registry.db'}"}
    done = projects.command("sync", "--json", "--project", walks.root, before=before, **variables)
    assert (done.code, done.json["epochs"][0]["rows"], done.err.splitlines()[-1]) == (0, 1, "loaded: False")
