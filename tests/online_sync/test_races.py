"""Syncs that race: whatever they are stopped at and go on from, readers see what the last one to finish brought, and nothing else."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source
from feature_definitions.intervals import instant
from online_sync import push
from online_sync.codec import EpochRecord, RowSchema
from online_sync.push import PushSpec
from online_sync.store import Store
from serving import answer
from serving.request import compile_service
from tests.online_sync.conftest import empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SCHEMA = RowSchema((("value", "int64"),))
RECORD = EpochRecord("shop", "lakelake", "spend", 1, 1, "observation", SCHEMA.columns, synced_at=0, by="first")
ENTITIES = range(4)
EVENTS = Source("events", columns={"entity": "int64", "value": "int64", "at": "timestamp"}, event_timestamp="at")
SPEND = ObservationGroup("spend", Entity("who", {"entity": "int64"}), EVENTS, columns=("value",), ttl="1d")
PLAN = compile_service(FeatureService("all", joins=(Join(SPEND),)))

CONTENTS = st.dictionaries(st.sampled_from(ENTITIES), st.integers(0, 2))
SYNCS = st.lists(st.tuples(CONTENTS, st.sampled_from([1, 1, 1, 2])), min_size=2, max_size=3)


class Gate:
    """Lets one thread of several go on at a time, up to its next call to the store."""

    def __init__(self) -> None:
        self._go, self._there = threading.Semaphore(0), threading.Semaphore(0)
        self.done = False

    def wait(self) -> None:
        """Of the thread: say that it is before a call, and wait until it may go on."""
        self._there.release()
        self._go.acquire()

    def finish(self) -> None:
        """Of the thread: say that it has ended."""
        self.done = True
        self._there.release()

    def arrive(self) -> None:
        """Of the test: wait until the thread is before its next call, or has ended."""
        self._there.acquire()

    def step(self) -> None:
        """Of the test: let it make one call."""
        if not self.done:
            self._go.release()
            self.arrive()


class GatedStore(Store):
    """A store whose every call waits at the gate of its thread."""

    gates: threading.local = threading.local()

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        self._wait()
        return super().mget(keys)

    def run(self, *given: Any) -> str:
        self._wait()
        return super().run(*given)

    def swap(self, *given: Any) -> bool:
        self._wait()
        return super().swap(*given)

    def _wait(self) -> None:
        gate: Gate | None = getattr(self.gates, "mine", None)
        if gate is not None:
            gate.wait()


@dataclass
class Sync:
    """One sync of these values, a row to a write, so that it can be stopped between any two."""

    url: str
    values: Mapping[int, int]
    generation: int
    name: str
    finished: list[tuple[EpochRecord, Mapping[int, int]]]
    gate: Gate = field(default_factory=Gate)

    def run(self) -> None:
        GatedStore.gates.mine = self.gate
        try:
            with closing(GatedStore(self.url)) as store:
                record = store.begin_epoch(replace(RECORD, generation=self.generation, by=self.name))
                list(push.push_batches((rows({key: value}) for key, value in self.values.items()), spec(self.url, record)))
                if store.publish_epoch(record):
                    self.finished.append((record, self.values))
        finally:
            self.gate.finish()


def spec(url: str, record: EpochRecord) -> PushSpec:
    return PushSpec(url, record, ("entity",), SCHEMA)


def rows(values: Mapping[int, int]) -> pa.RecordBatch:
    at = pa.array([0] * len(values), pa.timestamp("us", tz="UTC"))
    no = pa.array([False] * len(values))
    keys, kept = pa.array(values.keys(), pa.int64()), pa.array(values.values(), pa.int64())
    names = ["entity", "event_timestamp", "empties_at", "held", "retracted", "publish_id", "value"]
    return pa.RecordBatch.from_arrays([keys, at, pa.nulls(len(values), at.type), no, no, pa.array(["p"] * len(values)), kept], names)


def shown(url: str) -> dict[int, int]:
    """What readers see."""
    asked = [{"entity": key} for key in ENTITIES]
    with closing(Store(url)) as store:
        found = answer.fetch(PLAN, asked, space=RECORD.space, mget=store.mget, now=instant(1))
    return {each["entity"]["entity"]: each["values"]["spend__value"] for each in found if each["status"]["spend"] == "PRESENT"}  # type: ignore[misc]


def brought(finished: Sequence[tuple[EpochRecord, Mapping[int, int]]]) -> dict[int, int]:
    """What the syncs that finished brought, one after the other: one that writes every row begins anew."""
    found: dict[int, int] = {}
    for record, values in finished:
        found = dict(values) if record.floor == record.epoch else found | dict(values)
    return found


def started(
    server: str, syncs: Sequence[Any], steps: Sequence[int], finished: list[tuple[EpochRecord, Mapping[int, int]]]
) -> tuple[list[Sync], list[threading.Thread]]:
    """Syncs at once, each in a thread of its own, that have gone as many steps as were said of each."""
    racing = [Sync(server, values, generation, f"sync {n}", finished) for n, (values, generation) in enumerate(syncs)]
    threads = [threading.Thread(target=each.run) for each in racing]
    for each, thread in zip(racing, threads, strict=True):
        thread.start()
        each.gate.arrive()
    for n in steps:
        racing[n % len(racing)].gate.step()
    return racing, threads


@settings(max_examples=60, deadline=None)
@given(before=st.none() | CONTENTS, syncs=SYNCS, steps=st.lists(st.integers(0, 2), max_size=60), cut=st.sets(st.integers(0, 2), max_size=2))
def test_readers_see_what_the_last_finished_sync_brought_wherever_others_were_stopped(
    server: str, before: Mapping[int, int] | None, syncs: list[Any], steps: list[int], cut: set[int]
) -> None:
    """Syncs of `cut` stop after the steps, and go on only once one more sync has finished: those of them that had begun are too late."""
    empty(server)
    with pytest_patch() as patch:
        patch.setattr(push, "Store", GatedStore)
        finished: list[tuple[EpochRecord, Mapping[int, int]]] = []
        if before is not None:
            alone(Sync(server, before, 1, "before", finished))
        racing, threads = started(server, syncs, steps, finished)
        go_on = [each for n, each in enumerate(racing) if n not in cut]
        while not all(each.gate.done for each in go_on):
            for each in go_on:
                each.gate.step()
        alone(Sync(server, {0: 7, 1: 8}, 1, "last", finished))
        assert shown(server) == brought(finished)
        for each in racing:
            while not each.gate.done:
                each.gate.step()
        for thread in threads:
            thread.join()
        assert shown(server) == brought(finished)


@settings(max_examples=60, deadline=None)
@given(syncs=SYNCS, steps=st.lists(st.integers(0, 2), max_size=60))
def test_of_syncs_that_race_to_their_end_the_last_to_begin_is_the_one_that_readers_see(
    server: str, syncs: list[Any], steps: list[int]
) -> None:
    empty(server)
    with pytest_patch() as patch:
        patch.setattr(push, "Store", GatedStore)
        finished: list[tuple[EpochRecord, Mapping[int, int]]] = []
        racing, threads = started(server, syncs, steps, finished)
        while not all(each.gate.done for each in racing):
            for each in racing:
                each.gate.step()
        for thread in threads:
            thread.join()
        with closing(Store(server)) as store:
            record = store.read_epoch(RECORD.space, "spend")
        assert record is not None
        assert record.epoch == record.begun == finished[-1][0].epoch
        assert [each.epoch for each, _ in finished] == sorted(each.epoch for each, _ in finished)
        assert shown(server) == brought(finished)


def alone(sync: Sync) -> None:
    """Run a sync while all others stand still."""
    thread = threading.Thread(target=sync.run)
    thread.start()
    sync.gate.arrive()
    while not sync.gate.done:
        sync.gate.step()
    thread.join()


def pytest_patch() -> Any:
    import pytest

    return pytest.MonkeyPatch.context()
