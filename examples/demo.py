"""`headwater demo`: real flights of New York, from raw files to served features, with a summary that a person wants to read."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table

import feature_definitions
from examples import nyc_flights
from feature_definitions.errors import UserError
from feature_definitions.intervals import iso
from feature_definitions.planning.plan import OK, REJECTED, IntervalStatus

if TYPE_CHECKING:
    from headwater.experiments import Taught
    from headwater.project import Project

MODEL = "arrival_delay"
SERVICE = "arrival_delay_v1"
TOUCHED = ("carrier_delays", "origin_congestion", "aircraft_history", "weather_at_origin", "plane_attributes")


@dataclass
class Stages:
    """Wall and CPU seconds of each stage, in order; CPU is that of this process and all that it started, the JVM above all."""

    say: Callable[[str], None]
    rows: list[tuple[str, str, float, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time what is done inside; what is put into the list says what came out."""
        self.say(name)
        wall, cpu, result = time.monotonic(), _cpu_seconds(), list[str]()
        yield result
        self.rows.append((name, "; ".join(result), time.monotonic() - wall, _cpu_seconds() - cpu))


def run(folder: Path, *, shift: str, say: Callable[[str], None], open_project: Callable[[Path], "Project"]) -> RenderableType:
    """Make or go on with the demo project in `folder`, and return its summary; nothing that is OK is computed again."""
    now = datetime.now(UTC)
    moved = _project(folder, shift=shift, now=now)
    stages = Stages(say)
    end = None if moved else datetime(2014, 1, 2, tzinfo=UTC)
    with open_project(folder) as p:
        with stages.stage("land: raw flights become events, released up to now") as result:
            report, files = _land(folder, moved, now, say)
            result.append(f"{report.flights:,} flights known, {sum(files.values()):,} new files")
        with stages.stage("ingest") as result:
            ingested = p.ingest()
            result.append(f"{sum(r.rows for r in ingested):,} rows, {sum(r.quarantined for r in ingested):,} in quarantine")
        with stages.stage("materialize: compute, judge, publish") as result:
            published = p.materialize(end=end)
            result.append(f"{sum(r.rows for r in published):,} rows in {sum(r.published for r in published):,} intervals")
        with stages.stage("sync to the online store") as result:
            epochs = p.sync()
            result.append(f"{sum(e.rows for e in epochs):,} entities, {sum(e.written for e in epochs):,} written")
        with stages.stage("serve") as result:
            served = p.online(SERVICE, _entities(p))["results"]
            result.append(f"{len(served)} entities asked")
        with stages.stage("training set") as result:
            built = p.training_set("arrival_delay")
            result.append(f"{built.rows:,} rows" + (", unchanged" if built.unchanged else ""))
        statuses = p.status()
    with stages.stage("train") as result:
        metrics, again = _train(folder, str(built.manifest["fingerprint"]))
        result.append("unchanged" if again else f"{metrics.train_rows:,} rows, two models")
    with open_project(folder) as p:
        if not again:
            with stages.stage("log the model in MLflow") as result:
                result.append(f"taught by version {_log(p, metrics).version} of arrival_delay")
        with stages.stage("predict from what is served") as result:
            late = p.predict(MODEL, [each["entity"] for each in served])
            result.append("late with " + ", ".join(f"{each:.0%}" for each in late))
    return _summary(DemoRun(folder, moved, stages, report, statuses, built.manifest, metrics.lines, served))


def _project(folder: Path, *, shift: str, now: datetime) -> timedelta:
    """Make the project's folder if need be; the shift is chosen once and kept."""
    chosen = begun(folder, domain="flights", shift=timedelta(0) if shift == "none" else nyc_flights.choose_shift(now))
    if shift == "none" and chosen:
        weeks = chosen // timedelta(weeks=1)
        raise UserError(f"{folder} was begun with all times moved by {weeks} weeks; use another folder: --project DIR")
    return chosen


def begun(folder: Path, *, domain: str, shift: timedelta) -> timedelta:
    """Make the project of a domain of our catalog if need be, and say by how much its times are moved: whole weeks, chosen once."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = os.path.relpath(Path(feature_definitions.__file__).parent / "catalog" / domain, folder)
    (folder / "headwater.toml").write_text(f'[project]\nname = "{domain}"\ncatalog = "{catalog}"\n', encoding="utf-8")
    chosen = folder / "shift.json"
    if not chosen.exists():
        chosen.write_text(json.dumps({"weeks": shift // timedelta(weeks=1)}) + "\n", encoding="utf-8")
    return timedelta(weeks=int(json.loads(chosen.read_text(encoding="utf-8"))["weeks"]))


def _land(folder: Path, shift: timedelta, now: datetime, say: Callable[[str], None]) -> tuple[nyc_flights.Report, dict[str, int]]:
    converted = folder / "converted"
    report = nyc_flights.convert(nyc_flights.raw_data(), shift=shift, into=converted, progress=say)
    return report, nyc_flights.release(converted, landing=folder / "data", now=now)


def _entities(p: "Project") -> list[Mapping[str, Any]]:
    """Three of the flights whose prediction was asked for last, and one that nobody has ever seen."""
    import pyarrow.dataset as ds

    newest = sorted((p.settings.root / "data" / "departures").glob("*.csv"))[-2:]
    rows = ds.dataset([str(path) for path in newest], format="csv").to_table(columns=["carrier", "origin", "tailnum"]).to_pylist()
    known = [row for row in reversed(rows) if row["tailnum"]]
    distinct = list({row["origin"]: row for row in reversed(known)}.values())[:3]
    return [*distinct, {"carrier": "UA", "origin": "EWR", "tailnum": "N0NE"}]


def _train(folder: Path, fingerprint: str) -> tuple[Any, bool]:
    from examples import train_arrival_delay

    held = folder / "plots" / "arrival_delay.json"
    if held.exists() and (folder / "models" / MODEL / "model.skops").exists():
        known = json.loads(held.read_text(encoding="utf-8"))
        if known.get("fingerprint") == fingerprint:
            return train_arrival_delay.Metrics(**known), True
    return train_arrival_delay.run(folder, fingerprint=fingerprint), False


def _log(p: "Project", metrics: Any) -> "Taught":
    """Log the model that is served with the training set that taught it, and how good both models are."""
    found = {"auc": metrics.honest_auc, "auc_of_the_leaking_join": metrics.leaking_auc}
    files = p.settings.root / "models" / MODEL
    return p.log_model(MODEL, training_set="arrival_delay", files=files, metrics=found, params={"taught_by": metrics.train_rows})


@dataclass(frozen=True, slots=True)
class DemoRun:
    """All that the summary tells."""

    folder: Path
    shift: timedelta
    stages: Stages
    report: nyc_flights.Report
    statuses: Sequence[IntervalStatus]
    manifest: Mapping[str, Any]
    lines: Sequence[str]
    served: Sequence[Any]


def _summary(run: DemoRun) -> RenderableType:
    folder, served, manifest = run.folder, run.served, run.manifest
    rejected = [s for s in run.statuses if s.status == REJECTED]
    moved = f"moved by {run.shift // timedelta(weeks=1)} whole weeks, so that they happen now" if run.shift else "left in 2013"
    return Group(
        "",
        f"[bold]New York flights of 2013[/], {moved}",
        stage_table(run.stages),
        "",
        "[bold]What became of every flight[/]",
        *[f"  {line}" for line in run.report.lines()],
        "",
        _group_table({group: [s for s in run.statuses if s.group == group] for group in TOUCHED}),
        *(["", "[bold]Rejected by the gate[/] (not visible; the bad rows are in quarantine)"] if rejected else []),
        *[f"  {s.group} {s.interval}: {'; '.join(s.reasons)}" for s in rejected[:5]],
        "",
        f"[bold]Training set[/] {manifest['name']}: {manifest['rows']:,} rows, mode {manifest['mode']}; always known is assumed of "
        f"{', '.join(manifest['assumed_always_known'])}",
        *[f"  {line}" for line in run.lines],
        "",
        _served_table(served),
        "",
        "[bold]Where everything lies[/]",
        f"  Delta tables  {folder}/lake/features/<group>/g1   quarantine  {folder}/lake/quarantine   "
        f"training set  {folder}/lake/training_sets/arrival_delay",
        f"  plot          {folder}/plots/arrival_delay.png   definitions  feature_definitions/catalog/flights",
        "[bold]What to try next[/]",
        f"  headwater status --project {folder}",
        f"  headwater training-set arrival_delay --project {folder}      how its rows were found, and its leak report",
        f"  headwater get {SERVICE} {' '.join(f'{k}={v}' for k, v in served[0]['entity'].items())} --project {folder}",
        f"  headwater serve --port 8000 --project {folder}",
        f"  edit a file in {folder}/data/arrivals, then: headwater ingest --project {folder} && headwater plan --project {folder}",
        "  headwater init my_features        your own data, in five minutes (README)",
        f"  headwater down --project {folder}       stops the online store",
    )


def stage_table(stages: Stages) -> Table:
    """What came out of each stage, and what it took."""
    table = Table("stage", "what came out", "wall s", "cpu s", box=None, title_justify="left")
    for name, result, wall, cpu in stages.rows:
        table.add_row(name, result, f"{wall:.1f}", f"{cpu:.1f}")
    table.add_row("all", "", f"{sum(r[2] for r in stages.rows):.1f}", f"{sum(r[3] for r in stages.rows):.1f}", style="bold")
    return table


def _group_table(counts: Mapping[str, Sequence[IntervalStatus]]) -> Table:
    table = Table("group", "intervals", "OK", "REJECTED", "rows", "newest", box=None)
    for group, statuses in counts.items():
        ok = [s for s in statuses if s.status == OK]
        rejected = sum(s.status == REJECTED for s in statuses)
        newest = iso(ok[-1].interval.end) if ok else "-"
        table.add_row(group, f"{len(statuses):,}", f"{len(ok):,}", str(rejected), f"{sum(s.rows or 0 for s in ok):,}", newest)
    return table


def _served_table(served: Sequence[Any]) -> Table:
    shown = (
        "carrier_delays__late_share_7d",
        "origin_congestion__departure_delay_3h",
        "aircraft_history__last_delay_7d",
        "weather_at_origin__wind_speed",
        "plane_attributes__year",
    )
    table = Table("served just now", *[name.replace("__", "\n") for name in shown], box=None)
    for result in served:
        cells = [f"{_short(result['values'][name])} [dim]{result['status'][name.split('__')[0]]}[/]" for name in shown]
        table.add_row(" ".join(str(value) for value in result["entity"].values()), *cells)
    return table


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "null" if value is None else str(value)


def _cpu_seconds() -> float:
    """CPU seconds of this process and its descendants, living and ended; 0 where /proc is not there."""
    ticks, children = os.sysconf("SC_CLK_TCK"), _children()
    todo, total = [os.getpid()], 0.0
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        total += sum(_fields(pid)[11:15])
    return total / ticks


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _fields(int(entry.name))
        if fields:
            children.setdefault(fields[1], []).append(int(entry.name))
    return children


def _fields(pid: int) -> list[int]:
    """The numbers of /proc/<pid>/stat after the name: state (as 0), parent, ..., user and system time of itself and its ended children."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [int(part) if part.lstrip("-").isdigit() else 0 for part in text.rpartition(")")[2].split()]
