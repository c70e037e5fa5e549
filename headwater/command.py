"""The `headwater` command: words in, one call of the project each, tables or JSON out; exit codes 0, 1, 2 and 3 as `--help` says."""

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

import headwater
from feature_definitions import settings
from feature_definitions.errors import UserError
from feature_definitions.intervals import Interval, iso, merge
from feature_definitions.loader import Catalog, CatalogError
from feature_definitions.planning import plan
from feature_definitions.planning.cost import CostEstimate
from feature_definitions.planning.plan import GroupPlan, IntervalStatus
from feature_definitions.records import Generation
from headwater.project import _alone

DONE, FAILED, MISTAKE, REJECTED = 0, 1, 2, 3
EPILOG = """exit codes:  0 done (also when nothing was due)   1 something failed
             2 your mistake: the command, a definition, an input   3 done, but the gate rejected something"""

out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    code = run(options)
    sys.stdout.flush()
    raise SystemExit(code)


def run(options: argparse.Namespace) -> int:
    """Carry out the parsed command and say how it ended."""
    try:
        return int(options.verb(options))
    except KeyboardInterrupt:
        err.print("[red]interrupted[/]; what was published stays, the same command goes on from there")
        return FAILED
    except Exception as error:  # noqa: BLE001  # the one place where everything that went wrong becomes a sentence
        return _failed(error, options)


# ---------------------------------------------------------------------------------------------------------------------- verbs


def _demo(options: argparse.Namespace) -> int:
    from examples import demo, market

    folder = Path(options.project or ("demo" if options.data == "flights" else options.data))
    with _progress() as say:
        opened = partial(headwater.open, say=say)
        if options.data == "flights":
            report = demo.run(folder, shift=options.shift, say=say, open_project=opened)
        else:
            report = market.run(folder, say=say, open_project=opened)
    (err if options.json else out).print(report)
    return _print_json({"project": str(folder.resolve())}) if options.json else DONE


def _init(options: argparse.Namespace) -> int:
    from examples import starter

    folder = starter.make(Path(options.folder))
    if options.json:
        return _print_json({"project": str(folder), "next": starter.NEXT})
    out.print(f"made a project in [bold]{folder}[/]. Next:\n  cd {options.folder}\n  {starter.NEXT}")
    return DONE


def _new(options: argparse.Namespace) -> int:
    from examples import draft
    from feature_definitions.check import checked

    project = None if options.catalog else settings.load(settings.project_folder(options.project))
    folder = Path(options.catalog).resolve() if project is None else project.catalog
    root = folder.parent if project is None else project.root
    made = draft.draft(options.group, checked(folder), folder=folder, root=root, source=options.source)
    draft.write(made)
    if options.json:
        return _print_json({"group": str(made.group_file), "test": str(made.test_file)})
    out.print(
        f"wrote {made.group_file}\nand   {made.test_file}\nNext: say in them what the group means, then `headwater check`, then pytest"
    )
    return DONE


def _check(options: argparse.Namespace) -> int:
    try:
        with _project(options) as p:
            counts = _counts(p.catalog)
    except CatalogError as error:
        if options.json:
            _print_json({"mistakes": [{"file": str(m.file), "line": m.line, "message": m.message} for m in error.mistakes]})
        raise
    if options.json:
        return _print_json({"mistakes": [], **counts})
    out.print("fine: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()))
    return DONE


def _counts(c: Catalog) -> dict[str, int]:
    return {
        "entities": len(c.entities),
        "sources": len(c.sources),
        "groups": len(c.groups),
        "services": len(c.services),
        "training_sets": len(c.training_sets),
    }


def _plan(options: argparse.Namespace) -> int:
    with _project(options) as p:
        works = p.plan(*options.groups, start=options.start, end=options.end, only=options.only, within=options.within)
        bills = p.bill(works)
        _say_held(p.status(*options.groups) if any(work.held for work in works) else (), works)
    if options.json:
        return _print_json({"steps": [_step(step) for work in works for step in work.steps], "bill": [asdict(bill) for bill in bills]})
    table = Table("group", "generation", "intervals", "from", "to", "why", box=None)
    for work in works:
        for why, spans in _reasons(work).items():
            merged = merge(spans)
            table.add_row(work.group.name, str(work.generation), str(len(spans)), iso(merged[0].start), iso(merged[-1].end), why)
    out.print(table if table.row_count else "nothing is due")
    if bills:
        out.print("", _bill_table(bills))
    return DONE


def _bill_table(bills: Sequence[CostEstimate]) -> Table:
    table = Table("group", "intervals", "files to read", "bytes", "about seconds", "out of date then", box=None)
    for b in bills:
        moved = [*b.stale.groups, *(f"training set {name}" for name in b.stale.training_sets), *(["online"] if b.stale.online else [])]
        spent = "?" if b.seconds is None else f"{b.seconds:.0f}"
        table.add_row(b.group, f"{b.intervals:,}", f"{b.files:,}", _size(b.bytes), spent, ", ".join(moved) or "nothing")
    return table


def _size(count: int) -> str:
    """Bytes as a person says them."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _ingest(options: argparse.Namespace) -> int:
    with _progress() as say, _project(options, say) as p:
        reports = p.ingest(*options.groups)
    if options.json:
        _print_json({"sources": [_ingested(r) for r in reports]})
    else:
        table = Table("source", "files", "rows", "quarantined", "dates changed", "revision", box=None)
        for r in reports:
            table.add_row(r.source, str(r.files), f"{r.rows:,}", f"{r.quarantined:,}", str(r.dates_changed), str(r.revision or "-"))
        out.print(table)
    for r in reports:
        for reason, n in r.reasons.items():
            where = "not read where they lie" if r.in_place else "in quarantine"
            err.print(f"[yellow]{r.source}: {n} rows {where}: {_plain(reason)}[/]")
        for reason in r.refused:
            err.print(f"[red]{r.source}: refused {_plain(reason)}[/]")
    if any(r.refused for r in reports):
        return MISTAKE
    return REJECTED if any(r.quarantined for r in reports) else DONE


def _materialize(options: argparse.Namespace) -> int:
    with _progress() as say, _project(options, say) as p:
        results = p.materialize(*options.groups, start=options.start, end=options.end, only=options.only, within=options.within)
        left = p.plan(*options.groups, start=options.start, end=options.end, only=options.only, within=options.within)
        found = p.status(*options.groups) if any(work.held for work in left) else ()
    if options.json:
        _print_json({"groups": [_materialized(r) for r in results]})
    else:
        table = Table("group", "generation", "published", "rejected", "rows", "seconds", box=None)
        for r in results:
            table.add_row(r.group, str(r.generation), str(r.published), str(len(r.rejected)), f"{r.rows:,}", f"{r.seconds:.1f}")
        out.print(table)
    for r in results:
        for interval, failed in r.rejected[:5]:
            err.print(f"[yellow]{r.group} {interval} rejected: {_plain(', '.join(failed))}[/]")
        if len(r.rejected) > 5:
            err.print(f"[yellow]{r.group}: and {len(r.rejected) - 5} more; `headwater status {r.group}` lists them[/]")
    _say_held(found, left)
    return REJECTED if any(r.rejected for r in results) else DONE


def _status(options: argparse.Namespace) -> int:
    with _project(options) as p:
        found, tables = p.status(*options.groups), p.tables(*options.groups)
    _say_held(found)
    if options.json:
        return _print_json({"intervals": [_interval(s) for s in found], "tables": tables})
    out.print(_status_table(found, tables))
    return DONE


def _promote(options: argparse.Namespace) -> int:
    with _project(options) as p:
        accept: Literal["covering", "gaps"] = "gaps" if options.anyway else "covering"
        generations = p.promote(options.group, options.generation, accept=accept)
        outputs = p.catalog.tables[options.group].outputs
    if options.json:
        return _print_json({"group": options.group, "generations": [_generation(g) for g in generations]})
    current = next(g for g in generations if g.current)
    out.print(f"readers of {options.group} see generation {current.number} of {', '.join(str(g.number) for g in generations)}")
    if lacking := [column for column in outputs if column not in current.features]:
        err.print(f"[yellow]it has no {', '.join(lacking)}: they read as null[/]")
    return DONE


def _release(options: argparse.Namespace) -> int:
    with _project(options) as p:
        releases = p.release(options.group, start=options.start, end=options.end, reason=options.reason)
    if options.json:
        return _print_json({"released": [{"group": r.group, **_span(r.interval), "reason": r.reason} for r in releases]})
    for r in releases:
        out.print(f"released {r.group} {r.interval}: what waited for it is due; `headwater materialize {r.group}` computes it")
    return DONE


def _explain(options: argparse.Namespace) -> int:
    from serving.request import parse_entity

    with _project(options) as p:
        service = _alone(p._group(options.group))
        story = p.explain(options.group, parse_entity(service, dict(_pair(text) for text in options.keys)), at=options.at)
    if options.json:
        return _print_json(_told(story))
    for line in _story(story):
        out.print(line)
    return DONE


def _registry(options: argparse.Namespace) -> int:
    with _project(options) as p:
        facts = p.rebuild_registry(over="anything" if options.replace else "nothing")
    counts = {name: len(getattr(facts, name)) for name in type(facts).__slots__}
    if options.json:
        return _print_json({"restored": counts, "not_restored": ["syncs", "tiles"]})
    out.print("restored from the lake: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    out.print(
        "not restored: syncs (the next one goes on from what the online store says), tiles (they are built again when they are needed)"
    )
    return DONE


def _optimize(options: argparse.Namespace) -> int:
    with _project(options) as p:
        done, lake = p.optimize(*options.groups, keep=options.keep), p.settings.lake
    if options.json:
        return _print_json({"tables": [asdict(each) for each in done]})
    table = Table("table", "files", "now", "deleted from disk", "rows deleted before", box=None)
    for each in done:
        name = each.table.removeprefix(f"{lake}/")
        table.add_row(name, f"{each.files_before:,}", f"{each.files_after:,}", f"{each.deleted_files:,}", str(each.deleted_before or "-"))
    out.print(table if done else "there is no table yet")
    return DONE


def _training_set(options: argparse.Namespace) -> int:
    if options.spine is not None and options.service is None:
        raise headwater.Unknown("--spine needs --service: which features shall be joined to it?")
    with _progress() as say, _project(options, say) as p:
        built = p.training_set(options.name, spine=options.spine, service=options.service, mode=options.mode)
    if options.json:
        return _print_json(
            {"name": built.name, "path": built.path, "rows": built.rows, "unchanged": built.unchanged, "manifest": built.manifest}
        )
    out.print(f"[bold]{built.name}[/]: {built.rows:,} rows in {built.path}" + (" (unchanged, nothing to do)" if built.unchanged else ""))
    return DONE


def _sync(options: argparse.Namespace) -> int:
    with _progress() as say, _project(options, say) as p:
        epochs = p.sync(*options.groups)
    if options.json:
        return _print_json({"epochs": [_epoch(e) for e in epochs]})
    table = Table("group", "epoch", "coverage", "entities", "written", box=None)
    for e in epochs:
        table.add_row(e.group, str(e.epoch), "-" if e.coverage is None else iso(e.coverage), f"{e.rows:,}", f"{e.written:,}")
    out.print(table if epochs else "nothing is published yet; run `headwater materialize` first")
    return DONE


def _serve(options: argparse.Namespace) -> int:
    from online_sync.store import AsyncStore
    from serving import rest, server

    def ready(port: int) -> None:
        if options.json:
            _print_json({"url": f"http://{options.host}:{port}", "services": list(p.catalog.services)})
            sys.stdout.flush()
        err.print(f"serving {', '.join(p.catalog.services)} at http://{options.host}:{port} (ctrl-c stops)")

    with _project(options) as p:
        served = rest.app(p.catalog.services, project=p.settings.name, store=AsyncStore(p.store_url()), clock=lambda: datetime.now(UTC))
        server.run(served, host=options.host, port=options.port, ready=ready)
    return DONE


def _get(options: argparse.Namespace) -> int:
    from serving.request import parse_entity

    with _project(options) as p:
        texts = dict(_pair(text) for text in options.keys)
        service = p._service(options.service)
        body = p.online(options.service, [parse_entity(service, texts)])
    if options.json:
        return _print_json(body)
    result = body["results"][0]
    table = Table("feature", "value", "status", "event timestamp", box=None)
    for name, value in result["values"].items():
        group = name.split("__")[0]
        table.add_row(name, _plain(json.dumps(value)), result["status"][group], result["event_timestamp"][group] or "-")
    out.print(table)
    return DONE


def _down(options: argparse.Namespace) -> int:
    with _project(options) as p:
        stopped = p.down()
    if options.json:
        return _print_json({"stopped": stopped})
    out.print("stopped the embedded online store; its data stays" if stopped else "the embedded online store was not running")
    return DONE


# --------------------------------------------------------------------------------------------------------------------- as JSON


def _step(step: plan.Step) -> dict[str, object]:
    return {"step": type(step).__name__, "group": step.group, **_span(step.interval), "reason": step.reason}


def _interval(s: IntervalStatus) -> dict[str, object]:
    return {
        "group": s.group,
        **_span(s.interval),
        "status": s.status,
        "reasons": list(s.reasons),
        "rows": s.rows,
        "publish_id": s.publish_id,
        "delta_version": s.delta_version,
    }


def _generation(g: Generation) -> dict[str, object]:
    first = None if g.first_published_at is None else iso(g.first_published_at)
    return {"generation": g.number, "current": g.current, "first_published_at": first, "columns": list(g.features)}


def _span(interval: Interval) -> dict[str, object]:
    return {"interval_start": iso(interval.start), "interval_end": iso(interval.end)}


def _ingested(r: Any) -> dict[str, object]:
    return {
        "source": r.source,
        "files": r.files,
        "rows": r.rows,
        "quarantined": r.quarantined,
        "reasons": dict(r.reasons),
        "dates_changed": r.dates_changed,
        "revision": r.revision,
        "refused": list(r.refused),
    }


def _materialized(r: Any) -> dict[str, object]:
    rejected = [{**_span(interval), "failed": list(failed)} for interval, failed in r.rejected]
    return {
        "group": r.group,
        "generation": r.generation,
        "published": r.published,
        "rejected": rejected,
        "rows": r.rows,
        "publish_id": r.publish_id,
        "seconds": round(r.seconds, 3),
    }


def _epoch(e: Any) -> dict[str, object]:
    return {
        "group": e.group,
        "generation": e.generation,
        "epoch": e.epoch,
        "coverage": None if e.coverage is None else iso(e.coverage),
        "rows": e.rows,
        "written": e.written,
        "synced_at": iso(e.synced_at),
    }


def _told(story: Any) -> dict[str, object]:
    version, run = story.version, story.run
    return {
        "group": story.asked.group.name,
        "entity": story.asked.entity,
        "at": iso(story.asked.at),
        "generation": story.generation,
        "status": story.status,
        "values": story.values,
        "coverage": None if story.coverage is None else iso(story.coverage),
        "row": None if version is None else _version(version),
        "run": None
        if run is None
        else {name: run[name] for name in ("run_id", "revision", "state", "failed", "warned", "seconds")}
        | {"recorded_at": iso(run["recorded_at"])},
        "window": None if story.window is None else {"start": iso(story.window.start), "end": iso(story.window.end)},
        "events": story.events,
        "event_count": story.event_count,
        "later": [_version(v) for v in story.later],
    }


def _version(v: Any) -> dict[str, object]:
    return {
        "event_timestamp": iso(v.event_timestamp),
        **_span(v.publish.interval),
        "publish_id": v.publish.publish_id,
        "known_from": iso(v.publish.known_from),
        "basis": v.publish.basis,
        "visible_from": iso(v.visible_from),
        "values": v.values,
        "empties_at": None if v.empties_at is None else iso(v.empties_at),
        "held": v.held,
        "retracted": v.retracted,
        "replaced_by": v.replaced_by,
    }


def _print_json(document: object) -> int:
    sys.stdout.write(json.dumps(document, indent=2, default=_as_text) + "\n")
    return DONE


def _as_text(value: object) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)


# -------------------------------------------------------------------------------------------------------------------- as tables


def _story(story: Any) -> Iterator[Any]:
    """What `explain` tells a person: the answer, what it rests on, the values, the events."""
    keys = " ".join(f"{key}={value}" for key, value in story.asked.entity.items())
    yield f"[bold]{story.asked.group.name} {_plain(keys)}[/] as known at {iso(story.asked.at)}: [bold]{story.status}[/]"
    version, run = story.version, story.run
    facts = Table.grid(padding=(0, 2))
    if version is not None:
        p = version.publish
        modelled = " (history: interval end and publish delay)" if p.basis == "MODELLED" else ""
        replaced = f", replaced by {version.replaced_by}" if version.replaced_by else ""
        facts.add_row("  row", f"{iso(version.event_timestamp)}, of the interval {p.interval}, generation {story.generation}")
        facts.add_row("  published", f"{p.publish_id}{replaced}")
        facts.add_row("  known from", f"{iso(p.known_from)}, {p.basis}{modelled}")
    if run is not None:
        verdict = ", ".join((*run["failed"], *(f"warning: {name}" for name in run["warned"])))
        facts.add_row(
            "  run", f"{run['run_id']}, of revision {run['revision']}: {run['state']}{_plain(f' ({verdict})' if verdict else '')}"
        )
    if story.coverage is not None:
        facts.add_row("  coverage", f"{iso(story.coverage)}: the newest interval's end that was visible")
    for later in story.later:
        facts.add_row("  later", f"{later.publish.publish_id} gave other values, known from {iso(later.publish.known_from)}")
    yield facts
    values = Table("feature", "value", box=None)
    for name, value in story.values.items():
        values.add_row(name, _plain(_cell(value)))
    yield values
    if story.window is not None and story.event_count is None:
        yield f"the events of {story.source} in {story.window} are not listed: only Spark can read them where they lie"
    elif story.window is not None and story.source is not None:
        yield f"{story.event_count} events of {story.source} in {story.window}, as they are now"
    if story.events:
        yield _events_table(story.events)
    if (story.event_count or 0) > len(story.events):
        yield f"and {story.event_count - len(story.events)} older ones"


def _events_table(events: Sequence[Any]) -> Table:
    table = Table(*events[0], box=None)
    for event in events:
        table.add_row(*(_plain(_cell(value)) for value in event.values()))
    return table


def _cell(value: object) -> str:
    return "-" if value is None else _as_text(value)


def _reasons(work: GroupPlan) -> dict[str, list[Interval]]:
    reasons: dict[str, list[Interval]] = {}
    for s in work.due:
        reasons.setdefault(f"{s.status}: {'; '.join(s.reasons)}", []).append(s.interval)
    return reasons


def _status_table(found: Sequence[IntervalStatus], tables: dict[str, str]) -> Table:
    table = Table("group", "status", "intervals", "from", "to", "rows", "why", box=None)
    for group, path in tables.items():
        mine = [s for s in found if s.group == group]
        for status, reasons, some in _runs(mine):
            rows = f"{sum(s.rows or 0 for s in some):,}"
            table.add_row(
                group, status, str(len(some)), iso(some[0].interval.start), iso(some[-1].interval.end), rows, _plain("; ".join(reasons))
            )
        if not mine:
            table.add_row(group, "-", "0", "-", "-", "-", f"nothing ingested yet (table: {path})")
    return table


def _runs(found: Sequence[IntervalStatus]) -> list[tuple[str, tuple[str, ...], list[IntervalStatus]]]:
    """Neighbouring intervals of one status and reason, together."""
    runs: list[tuple[str, tuple[str, ...], list[IntervalStatus]]] = []
    for s in found:
        if runs and runs[-1][:2] == (s.status, s.reasons):
            runs[-1][2].append(s)
        else:
            runs.append((s.status, s.reasons, [s]))
    return runs


def _say_held(found: Sequence[IntervalStatus], works: Sequence[GroupPlan] = ()) -> None:
    """One line per group of which intervals wait for rejected ones, with the command that lets them pass.

    What a plan leaves alone only because its range leaves out an interval that is to be tried again is said too.
    """
    waiting = list(dict.fromkeys(s.group for s in found if s.status == plan.HELD))
    for group in waiting:
        held = [s.interval for s in found if s.group == group and s.status == plan.HELD]
        before = [s.interval for s in found if s.group == group and s.status == plan.REJECTED and s.holds]
        holders = [interval for interval in before if interval.start < held[-1].start]
        if not holders:
            reasons = next(s.reasons for s in found if s.group == group and s.status == plan.HELD)
            err.print(f"[yellow]{group}: {len(held)} intervals from {iso(held[0].start)} to {iso(held[-1].end)}: the first {reasons[0]}[/]")
            continue
        which = f"{holders[0]}, which the gate rejected" if len(holders) == 1 else f"{len(holders)} that the gate rejected"
        err.print(
            f"[yellow]{group}: {len(held)} intervals from {iso(held[0].start)} to {iso(held[-1].end)} wait for {which}; correct its data, "
            f"or let them pass: headwater release {group} --from {iso(holders[0].start)} --to {iso(holders[-1].end)}[/]"
        )
    for work in works:
        if work.held and work.group.name not in waiting:
            first, last = work.held[0], work.held[-1]
            err.print(
                f"[yellow]{work.group.name}: {len(work.held)} intervals from {iso(first.interval.start)} to {iso(last.interval.end)} are "
                f"left alone: the first {first.reasons[0]}; it is to be tried again, so take it into the range[/]"
            )


def _plain(text: str) -> str:
    """Text that rich shall print as it is."""
    return text.replace("[", "\\[")


# ---------------------------------------------------------------------------------------------------------------------- running


def _project(options: argparse.Namespace, say: headwater.Say = lambda _: None) -> "headwater.Project":
    return headwater.open(settings.project_folder(options.project), say=say)


@contextlib.contextmanager
def _progress() -> Iterator[headwater.Say]:
    """Say what long work is doing: a live line on a terminal, plain lines elsewhere; always on stderr."""
    if not err.is_terminal:
        yield lambda text: err.print(text, markup=False)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task: list[TaskID] = []

        def say(text: str) -> None:
            for old in task:
                progress.update(old, completed=1)
                progress.console.print(f"[dim]{_plain(progress.tasks[0].description)}[/]")
                progress.remove_task(old)
            task[:] = [progress.add_task(text, total=None)]

        yield say


def _failed(error: Exception, options: argparse.Namespace) -> int:
    """One sentence for what went wrong, and its exit code; the traceback of what nobody foresaw goes to a file."""
    if isinstance(error, UserError):
        err.print(f"[red]error:[/] {_plain(str(error))}")
        return MISTAKE
    err.print(f"[red]failed:[/] {_plain(_sentence(error))}")
    with contextlib.suppress(OSError):
        state = settings.project_folder(getattr(options, "project", None)) / ".headwater"
        if state.is_dir():
            (state / "last-error.log").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            err.print(f"[dim]details: {state / 'last-error.log'}[/]")
    return FAILED


def _sentence(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0][:500]
    return first or type(error).__name__


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise headwater.Unknown(f"{text!r} is not key=value; write for example customer_id=42")
    return key, value


# ---------------------------------------------------------------------------------------------------------------------- parsing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headwater",
        description="Features that are correct in time, everywhere.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Not from a parent: argparse would share the option, and its default would undo what stands before the verb.
    parser.add_argument("--project", metavar="DIR", help="the project's folder (default: the current one)")
    parser.set_defaults(json=False)
    verbs = parser.add_subparsers(required=True, metavar="VERB", title="verbs")
    for add in (_beginning, _offline, _deciding, _knowing, _keeping, _training, _online):
        add(verbs)
    return parser


def _verb(
    verbs: Any, action: Callable[[argparse.Namespace], int], about: str, example: str, *options: Callable[[argparse.ArgumentParser], None]
) -> argparse.ArgumentParser:
    """Add one verb: its name is the second word of its example."""
    name = example.split()[1]
    made: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(verb=action)
    made.add_argument("--project", metavar="DIR", default=argparse.SUPPRESS, help="the project's folder (default: the current one)")
    for add in options:
        add(made)
    return made


def _listed(made: argparse.ArgumentParser) -> None:
    made.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _some(made: argparse.ArgumentParser) -> None:
    made.add_argument("groups", nargs="*", metavar="GROUP", help="feature groups (none: all)")


def _one(made: argparse.ArgumentParser) -> None:
    made.add_argument("group", metavar="GROUP", help="a feature group")


def _ranged(made: argparse.ArgumentParser) -> None:
    made.add_argument("--from", dest="start", metavar="DATE", help="only intervals that start at or after this date (UTC)")
    made.add_argument("--to", dest="end", metavar="DATE", help="only intervals that end at or before this date: it is exclusive")


def _chosen(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--only",
        choices=("missing", "stale", "all"),
        default="due",
        help="only what was never computed, only what is stale, or all whatever its status, rejected included (default: missing and stale)",
    )
    made.add_argument(
        "--within",
        choices=("range", "restate"),
        default="range",
        help="restate: leave alone what late data made stale and is older than the group's restate_within, as scheduled runs do",
    )


def _beginning(verbs: Any) -> None:
    demo = _verb(verbs, _demo, "Run everything on real flights of New York, or on daily prices.", "headwater demo", _listed)
    demo.add_argument(
        "data", nargs="?", choices=("flights", "market"), default="flights", help="flights (default), or market: share prices"
    )
    demo.add_argument("--shift", choices=("auto", "none"), default="auto", help="auto: flights of 2013 happen now; none: they stay in 2013")
    init = _verb(verbs, _init, "Make a project with a small catalog and data.", "headwater init my_features", _listed)
    init.add_argument("folder", metavar="DIR", help="the new project's folder")
    new = _verb(
        verbs,
        _new,
        "Write a new group's file and its test into the catalog, to be changed; never over a file that is there.",
        "headwater new customer_visits --source visits",
        _one,
        _listed,
    )
    new.add_argument("--source", metavar="SOURCE", help="the source that it reads (default: the catalog's only one)")
    new.add_argument("--catalog", metavar="DIR", help="a catalog folder that is in no project, like feature_definitions/catalog")
    _verb(verbs, _check, "Check every definition, in seconds, without Java or data.", "headwater check", _listed)


def _offline(verbs: Any) -> None:
    january = "--from 2026-01-01 --to 2026-02-01"
    _verb(
        verbs,
        _plan,
        "Show what materialize would do, why, and what it takes: files, bytes, seconds, what is out of date then.",
        f"headwater plan customer_spend {january}",
        _some,
        _ranged,
        _chosen,
        _listed,
    )
    ingest = _verb(
        verbs,
        _ingest,
        "Bring new and changed files into the sources' tables; look at those that are read in place.",
        "headwater ingest",
        _listed,
    )
    ingest.add_argument("groups", nargs="*", metavar="NAME", help="sources, or groups whose source is meant (none: all)")
    _verb(
        verbs,
        _materialize,
        "Compute, judge and publish what is missing or stale.",
        f"headwater materialize customer_spend {january}   # January; --to is exclusive",
        _some,
        _ranged,
        _chosen,
        _listed,
    )
    _verb(verbs, _status, "Show the state of every interval, and why.", "headwater status customer_spend --json", _some, _listed)


def _deciding(verbs: Any) -> None:
    promote = _verb(
        verbs,
        _promote,
        "Give readers another generation of a group to see: its newest meaning, or an older one again.",
        "headwater promote customer_spend --generation 1   # back to the first; without --generation: what the definition means",
        _one,
        _listed,
    )
    promote.add_argument("--generation", type=int, metavar="N", help="which one (default: that of the group's definition)")
    promote.add_argument("--anyway", action="store_true", help="also if it lacks intervals that readers see now")
    release = _verb(
        verbs,
        _release,
        "Let later intervals pass that wait for a rejected one; the rejected one itself stays invisible.",
        'headwater release customer_spend --from 2026-01-05 --to 2026-01-06 --reason "a known outage"   # the rejected day',
        _one,
        _listed,
    )
    release.add_argument("--from", dest="start", metavar="DATE", required=True, help="the start of the rejected interval (UTC)")
    release.add_argument("--to", dest="end", metavar="DATE", required=True, help="its end, or that of the last one: exclusive")
    release.add_argument("--reason", default="", metavar="TEXT", help="why they may pass; it is kept")


def _knowing(verbs: Any) -> None:
    explain = _verb(
        verbs,
        _explain,
        "Tell the story of one value: the row, since when it was known, the run and the events behind it.",
        "headwater explain customer_spend customer_id=42 --at 2026-01-06",
        _one,
        _listed,
    )
    explain.add_argument("keys", nargs="*", metavar="key=value", help="the entity's keys")
    explain.add_argument("--at", metavar="TIME", help="as it was known then, in UTC (default: now)")
    registry = _verb(
        verbs,
        _registry,
        "Restore the registry from the lake alone, after it was lost.",
        "headwater registry rebuild   # ledger, publishes, revisions, files, generations, releases",
        _listed,
    )
    registry.add_argument("action", choices=("rebuild",), help="rebuild: what a registry of this lake must hold is found in the lake")
    registry.add_argument("--replace", action="store_true", help="also over a registry that holds something: all of it is replaced")


def _keeping(verbs: Any) -> None:
    optimize = _verb(
        verbs,
        _optimize,
        "Join small files, delete replaced ones and rows past a group's `retain`; nothing becomes stale by it.",
        "headwater optimize customer_spend --keep 30d",
        _some,
        _listed,
    )
    optimize.add_argument(
        "--keep", default="7d", metavar="SPAN", help="how long replaced files stay for jobs that read them still (default and least: 7d)"
    )


def _training(verbs: Any) -> None:
    training = _verb(
        verbs,
        _training_set,
        "Join a spine with features as they were known at its times.",
        "headwater training-set --spine labels.parquet --service churn_v1 --mode as_known",
        _listed,
    )
    training.add_argument("name", nargs="?", metavar="NAME", help="a training set of the catalog, or the name of the one to make")
    training.add_argument("--spine", metavar="PATH", help="CSV, Parquet or Delta with the keys and event_timestamp")
    training.add_argument("--service", metavar="SERVICE", help="the feature service to join to the spine")
    training.add_argument("--mode", choices=("as_known", "event_time", "as_served"), help="which clock to read by")


def _online(verbs: Any) -> None:
    _verb(verbs, _sync, "Bring the newest values to the online store (Feast calls this materialize).", "headwater sync", _some, _listed)
    serve = _verb(verbs, _serve, "Answer feature requests over HTTP.", "headwater serve --port 8000", _listed)
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="the port, 0 for a free one (default: 8000)")
    serve.add_argument("--host", default="127.0.0.1", metavar="HOST", help="the address to listen at (default: this machine only)")
    get = _verb(
        verbs,
        _get,
        "Ask for the features of one entity, as the serving layer answers.",
        "headwater get customer_v1 customer_id=42",
        _listed,
    )
    get.add_argument("service", metavar="SERVICE", help="a feature service")
    get.add_argument("keys", nargs="*", metavar="key=value", help="the entity's keys")
    _verb(verbs, _down, "Stop the project's embedded online store; its data stays.", "headwater down", _listed)
