"""A process of another host that is stopped at any step, and goes on after its lease was taken over, neither loses nor doubles anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_registry import leases, rebuild, schema
from lake import delta
from tests import projects, stopping
from tests.projects import opened
from tests.test_faults import Base, State, base, copied, left_over, state  # noqa: F401  # `base` is a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headwater import Project


@dataclass(slots=True)
class Elsewhere:
    """A process that believes to be on another host."""

    process: subprocess.Popen[str]
    asked: bool = False
    """Whether it has an answer to give."""

    def works_until(self, step: str, folder: Path) -> None:
        """Let it work in the project until it has stopped at the step."""
        self.asked = True
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"step": step, "folder": str(folder)}) + "\n")
        self.process.stdin.flush()
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert self.process.poll() is None
            time.sleep(0.05)

    def goes_on(self) -> str:
        """Let it go on; how its work ended."""
        os.kill(self.process.pid, signal.SIGCONT)
        return self.answer()

    def rests(self) -> None:
        """Let it end what it was asked for by a test that failed before it went on."""
        if self.asked:
            self.goes_on()

    def answer(self) -> str:
        assert self.process.stdout is not None
        self.asked = False
        return self.process.stdout.readline().strip()


@pytest.fixture
def elsewhere(a_process: Elsewhere) -> Iterator[Elsewhere]:
    """The other host's process, at rest before the test and after it."""
    yield a_process
    a_process.rests()


@pytest.fixture(scope="module")
def a_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """A process with a Spark of its own."""
    words = [sys.executable, "-m", "tests.stopping", str(tmp_path_factory.mktemp("elsewhere"))]
    environment = projects.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        other = Elsewhere(process)
        while other.answer() != "ready":
            assert process.poll() is None
        yield other
        assert process.stdin is not None
        process.stdin.close()


def tiles_of(project: Project) -> list[tuple[object, ...]]:
    """The tiles that the group's rows are made of."""
    found = [delta.load(str(path)) for path in sorted(Path(project.settings.lake, "tiles").glob("*/*/*")) if path.is_dir()]
    return sorted(tuple(map(str, row.values())) for table in found for row in table.to_pylist())


@pytest.fixture(scope="module")
def undisturbed(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[State, list[tuple[object, ...]]]]:  # noqa: F811
    """What there is after each verb when nothing disturbs it: the project's state, and its tiles."""
    found = {}
    for verb, before in {"materialize": base.to_materialize, "promote": base.to_materialize, "ingest": base.to_ingest}.items():
        folder = copied(before, tmp_path_factory.mktemp(verb) / "shop")
        stopping.work(verb, folder)
        with opened(folder) as p:
            found[verb] = (state(p), tiles_of(p))
    return found


def fall_silent(folder: Path) -> None:
    """As if who holds leases of the project had renewed them long ago: nobody needs to wait until that is so."""
    with opened(folder) as p, p._registry._database.writing() as connection:
        past = leases.clock(connection) - 10 * stopping.SILENCE // timedelta(microseconds=1)
        connection.execute(schema.leases.update().values(renewed_at=past))


LATE = {"before the lease is given back"}
"""Where there is nothing left to lose, and who is stopped holds a lock of SQLite."""


@pytest.mark.parametrize("step", stopping.STEPS)
def test_who_is_stopped_at_a_step_and_goes_on_after_the_takeover_changes_nothing(
    base: Base,  # noqa: F811
    undisturbed: dict[str, tuple[State, list[tuple[object, ...]]]],
    elsewhere: Elsewhere,
    tmp_path: Path,
    step: str,
) -> None:
    verb = stopping.STEPS[step].verb
    folder = copied(base.to_ingest if verb == "ingest" else base.to_materialize, tmp_path / "shop")
    elsewhere.works_until(step, folder)
    with stopping.impatient():
        if step not in LATE:
            fall_silent(folder)
        stopping.work(verb, folder)
        said = json.loads(elsewhere.goes_on())
        assert said.split(":")[0] == ("done" if step in LATE else "LeaseLost"), said
        with opened(folder) as p:
            assert (state(p), tiles_of(p)) == undisturbed[verb]
            assert rebuild.facts(p.settings.lake) == p._registry.facts()
            assert p.leases() == ()
        stopping.work(verb, folder)
        with opened(folder) as p:
            assert state(p) == undisturbed[verb][0]
