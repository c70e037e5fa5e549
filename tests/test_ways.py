"""The two ways that ARCHITECTURE describes, of a row and of an interval: a row goes through just the files that are named there."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from online_sync.store import AsyncStore
from serving import rest
from tests import projects
from tests.test_architecture import ROOT, modules, relative, way

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from pyspark.sql import SparkSession

    from headwater import Project

CATALOG = """
from feature_definitions import Derived, Entity, Feature, FeatureService, Files, Join, Source, WindowedGroup

walker = Entity("walker", keys={"walker_id": "int64"})
steps = Source("steps", Files("data/steps.csv"), columns={"walker_id": "int64", "taken": "int64", "walked_at": "timestamp"},
               event_timestamp="walked_at", timezone="UTC", derive={"double_step": "pmod(taken, 999) * 2"})
walks = WindowedGroup("walks", walker, steps, ttl="2d", features=(
    Feature("steps", "sum", "double_step", windows=("1d",)), Derived("steps_an_hour", "steps_1d / 24"),
))
walker_v1 = FeatureService("walker_v1", joins=(Join(walks),))
"""
STAGES = ("expectations", "lake", "online_sync", "serving", "spark_jobs")
OPTIMIZED = 0x01
"""The flag of a function's code, which the code of a module or a class does not have."""


@contextmanager
def files_at_work() -> Iterator[set[str]]:
    """The first-party files of which a function runs within the block; everything is imported before."""
    found: set[str] = set()

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_flags & OPTIMIZED:
            found.add(frame.f_code.co_filename)

    for path in modules(*STAGES, "headwater", "feature_registry"):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    names = {str(path): relative(path) for path in modules(*STAGES, "headwater", "feature_registry", "feature_definitions")}
    result: set[str] = set()
    sys.setprofile(called)
    try:
        yield result
    finally:
        sys.setprofile(None)
        result |= {names[file] for file in found if file in names}


async def asked(project: Project, entity: dict[str, int]) -> Any:
    """What the HTTP service answers for one entity."""
    sent: list[Any] = []
    store = AsyncStore(project.store_url())
    app = rest.app(project.catalog.services, space=project._space, store=store, clock=project.clock)
    body = json.dumps({"service": "walker_v1", "entities": [entity]}).encode()
    scope = {"type": "http", "method": "POST", "path": "/v1/features", "query_string": b"", "headers": []}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: object) -> None:
        sent.append(message)

    await app(scope, receive, send)
    await store.close()
    return json.loads(sent[1]["body"])["results"][0]


def test_a_row_goes_from_file_to_answer_through_the_files_that_are_named(spark: SparkSession, tmp_path: Path) -> None:
    rows = "walker_id,taken,walked_at\n1,24,2026-01-05T06:00:00Z\n"
    with closing(projects.opened(projects.make(tmp_path / projects.ODD, catalog=CATALOG, files={"data/steps.csv": rows}))) as p:
        with files_at_work() as ran:
            p.ingest()
            p.cost(p.plan())
            p.materialize()
            p.sync()
            answer = asyncio.run(asked(p, {"walker_id": 1}))
        p.down()
    assert answer["values"] == {"walks__steps_1d": 48, "walks__steps_an_hour": 2.0}
    row, interval, beneath = (set(way(title)) for title in ("The way of a row", "The way of an interval", "Under both"))
    assert {path for path in ran if path.startswith(STAGES)} - row - interval - beneath == set()
    assert row - ran == set()
