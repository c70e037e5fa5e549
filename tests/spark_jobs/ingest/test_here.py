"""What an ingest without Spark makes of files is what Spark makes of them: rows, revisions, quarantine, records and reports."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Files, Source, layout
from feature_registry import open_registry
from spark_jobs.ingest import bring, here, known_ids, row_blocks, seen
from tests.offline import Lake

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pyspark.sql import SparkSession

    from spark_jobs.context import Context
    from spark_jobs.ingest.journal import IngestReport
    from tests.s3 import Server

NOW = datetime(2026, 2, 1, tzinfo=UTC)
HEADER = "id,n,x,price,ok,day,at,arrived"
KINDS = {"x": "double", "price": "decimal(8,2)", "ok": "boolean", "day": "date", "at": "timestamp", "arrived": "timestamp"}
FILES = Files("data/*.csv", format="csv")
SOURCES = (
    Source(
        "orders", FILES, columns={"id": "string", "n": "int64"} | KINDS, id=("id", "n"), event_timestamp="at", arrived_at="arrived",
        timezone="UTC",
    ),
    Source("clicks", FILES, columns=KINDS, event_timestamp="at", timezone="UTC"),
    Source("things", FILES, columns={"n": "int64", "x": "double"}, id=("n",), shape="static"),
)  # fmt: skip


def histories(steps: int) -> Iterator[dict[str, str | None]]:
    """What is written to which file before each ingest; None: it is deleted."""
    draw = random.Random(11)

    def row() -> str:
        far = draw.random()
        at = datetime(1970 if far < 0.02 else 2031 if far < 0.04 else 2026, 1, draw.randint(1, 9), draw.randint(0, 23), tzinfo=UTC)
        arrived = "" if draw.random() < 0.3 else f"{at + timedelta(days=draw.randint(0, 2)):%Y-%m-%dT%H:%M:%SZ}"
        x = draw.choice(("1.5", "-0", "2", "", "none", "12345678.9", "0.00012"))
        n, ok, day = draw.choice(("1", "2", "3", "")) if draw.random() < 0.5 else "1", draw.choice(("true", "no", "")), f"{at:%Y-%m-%d}"
        return f"{draw.choice('abcdef')},{n},{x},{draw.choice(('1.25', '', '9.999'))},{ok},{day},{at:%Y-%m-%dT%H:%M:%SZ},{arrived}"

    files: dict[str, list[str]] = {}
    for step in range(steps):
        written: dict[str, str | None] = {}
        for name in draw.sample("pqrs", 2 if step else 3):
            old = files.get(name, [])
            files[name] = draw.sample(old, len(old) // 2) + [row() for _ in range(draw.randint(3, 25))]
            files[name] += files[name][:2]
            written[name] = "\n".join([HEADER, *files[name], ""])
        if step == 1:
            written["q"] = "id,n\na,1\n"
        if step == 2:
            written["p"] = None
        yield written


@dataclass(frozen=True)
class Outcome:
    """All that one ingest left."""

    report: IngestReport
    rows: list[Any]
    quarantine: list[Any]
    revisions: Any
    files: Any


def outcome(lake: Lake, source: Source, context: Context) -> Outcome:
    report = bring.bring(source, context)
    kept = (*source.columns, "_hw_time", "_hw_date", "_hw_file", "_hw_line", "_hw_ingest", "_hw_live", "_hw_aside")
    rows = [tuple(repr(row[name]) for name in kept) for row in lake.load(layout.source_table(context.lake, source.name))]
    aside = [repr(sorted(row.items())) for row in lake.load(layout.quarantine_table(context.lake, source.name))]
    files = {name: replace(file, ingest_id="", tag=None) for name, file in lake.registry.files(source.name).items()}
    return Outcome(report, sorted(rows), sorted(aside), lake.registry.revisions(source.name), files)


def write(folder: Path, texts: Mapping[str, str | None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / f"{name}.csv"
        path.unlink(missing_ok=True)
        (folder / "left.CSV").write_text(HEADER)  # which no glob matches
        if text is not None:
            path.write_text(text)


@pytest.fixture
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_ENOUGH", 1)
    monkeypatch.setattr(known_ids, "_SMALL", 0)
    monkeypatch.setattr(row_blocks, "_MEMORY", 5_000)
    monkeypatch.setattr(row_blocks, "AT_ONCE", 7)
    monkeypatch.setattr(known_ids, "_JOINED_AT_ONCE", 7)
    monkeypatch.setattr(here, "_ROWS_WRITTEN", 3)


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize(
    ("source", "steps", "place"),
    [(SOURCES[0], 4, "here"), (SOURCES[0], 3, "s3a://files/lake"), (SOURCES[1], 2, "here"), (SOURCES[2], 2, "here")],
    ids=lambda each: getattr(each, "name", each),
)
def test_without_spark_the_same_is_made_of_files(
    source: Source, steps: int, place: str, spark: SparkSession, on_s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = list[str](), here.of_files
    monkeypatch.setattr(here, "of_files", lambda *told, **more: made.append(told[2].context.lake) or real(*told, **more))
    if place != "here":
        on_s3.bucket("files")
    with ExitStack() as until_the_end:
        registries = [until_the_end.enter_context(open_registry(f"sqlite:///{tmp_path}/{way}.db")) for way in ("here", "spark")]
        lakes = [Lake(spark, tmp_path / str(n), registry, now=NOW) for n, registry in enumerate(registries)]
        ours = replace(lakes[0].context, master="local[2]", lake=lakes[0].path if place == "here" else place)
        for step, written in enumerate(histories(steps)):
            for lake in lakes:
                write(lake.root / "data", written)
            found = outcome(lakes[0], source, ours)
            expected = outcome(lakes[1], source, replace(lakes[1].context, master="spark://elsewhere:7077"))
            assert found == expected, step
            assert made == [ours.lake] * (step + 1)
            assert found.rows
            assert found.quarantine
            assert step or "left.CSV" in found.report.hints[0]
