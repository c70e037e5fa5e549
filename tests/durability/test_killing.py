"""Runs, the S3 server and PostgreSQL are killed at random moments: readers see old rows or new ones, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from feature_registry import rebuild
from tests.durability import shops
from tests.durability.shops import Killed, Reader, Worker
from tests.projects import NOW, opened

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests import postgresql, s3

ROUNDS = 9
DAYS = 5
TRIES = 6
LATER = NOW + timedelta(hours=11)
SEED = int(os.environ.get("DURABILITY_SEED") or random.SystemRandom().randrange(10**6))
"""Printed with what goes wrong; DURABILITY_SEED draws the same moments again."""


@dataclass
class Chaos:
    """Who is killed when, and stays away for how long."""

    moments: random.Random
    worker: Worker
    s3: s3.Server
    postgresql: postgresql.Server
    lasts: float = 5.0
    """How many seconds a round's work takes, by the last one that was not killed."""

    def strike(self, kind: str) -> None:
        """Kill one, at a moment of a round's work; a server comes back soon."""
        time.sleep(self.moments.uniform(0, self.lasts))
        match kind:
            case "run":
                self.worker.kill()
            case "s3":
                self.s3.kill()
                time.sleep(self.moments.uniform(0, 2))
                self.s3.start()
            case "postgresql":
                self.postgresql.kill()
                time.sleep(self.moments.uniform(0, 2))
                self.postgresql.start()


def one_round(worker: Worker, folder: Path, number: int, *, striker: threading.Thread | None) -> list[str]:
    """Ingest and publish what was laid down, again and again until it is answered with success; what was answered."""
    said: list[str] = []
    shops.bring(folder, days=DAYS, round_=number)
    for verb, words in (("ingest", {}), ("materialize", {"start": "2026-01-01", "end": f"2026-01-0{DAYS + 1}"})):
        for _ in range(TRIES):
            if striker is not None and striker.ident is None:
                striker.start()
            now = NOW + number * timedelta(hours=1) + len(said) * timedelta(minutes=1)
            try:
                answer = worker.ask(verb, now=now, folder=folder, **words)
            except Killed:
                answer = "killed"
            said.append(answer)
            if answer == "done":
                break
        else:
            raise AssertionError(f"{verb} did not succeed in {TRIES} tries: {said}")
    return said


def test_readers_see_old_or_new_intervals_nothing_acknowledged_is_lost_and_the_rerun_repairs(
    here: dict[str, str], versitygw: s3.Server, postgresql: postgresql.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"DURABILITY_SEED={SEED}")
    shop, quiet = shops.make(tmp_path / "shop"), shops.make(tmp_path / "quiet")
    worker = Worker(shop, here, tmp_path / "worker.log")
    chaos = Chaos(random.Random(SEED), worker, versitygw, postgresql)
    worker.start()
    kinds = ["run", "s3", "postgresql"] * (ROUNDS // 3)
    chaos.moments.shuffle(kinds)
    with Reader(here["HEADWATER_LAKE"]) as reader:
        for number, kind in enumerate(kinds, start=1):
            began = time.monotonic()
            striker = threading.Thread(target=chaos.strike, args=(kind,))
            said = one_round(worker, shop, number, striker=striker)
            reader.acknowledged, chaos.lasts = number, time.monotonic() - began if kind != "run" else chaos.lasts
            striker.join()
            counts = f"{len(reader.seen)} reads, {len(reader.refused)} refused"
            print(f"round {number}, {time.monotonic() - began:.0f} s: {kind} killed; answers {said}; {counts}", flush=True)
    worker.close()
    assert reader.wrong == []
    assert len(set(reader.seen)) > ROUNDS // 2, "the reader saw too little"
    with opened(shop, now=LATER) as p:
        disturbed = shops.state(p)
        assert rebuild.facts(p.settings.lake) == p._registry.facts()
    assert disturbed == undisturbed(quiet, tmp_path, monkeypatch)


def undisturbed(folder: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> shops.State:
    """What the same rounds leave on a local disk, with nobody killed."""
    for name in ("HEADWATER_LAKE", "HEADWATER_PROMOTE", "HEADWATER_REGISTRY_URL"):
        monkeypatch.delenv(name)
    worker = Worker(folder, {}, scratch / "quiet.log")
    worker.start()
    try:
        for number in range(1, ROUNDS + 1):
            assert one_round(worker, folder, number, striker=None) == ["done", "done"]
    finally:
        worker.close()
    with opened(folder, now=LATER) as p:
        return shops.state(p)
