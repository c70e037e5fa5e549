"""The `headwater` command: words in, one call of the project each, tables or JSON out; exit codes 0, 1, 2 and 3 as `--help` says."""

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

import headwater
from feature_definitions import plan, settings
from feature_definitions.intervals import Interval, iso, merge
from feature_definitions.loader import Catalog, CatalogError
from feature_definitions.model import DefinitionError
from feature_definitions.plan import GroupPlan, IntervalStatus

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
    from examples import demo

    with _progress() as say:
        report = demo.run(Path(options.project or "demo"), shift=options.shift, say=say)
    out.print(report)
    return DONE


def _init(options: argparse.Namespace) -> int:
    from examples import starter

    folder = starter.make(Path(options.folder))
    out.print(f"made a project in [bold]{folder}[/]. Next:\n  cd {options.folder}\n  {starter.NEXT}")
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
        works = p.plan(*options.groups, start=options.start, end=options.end)
    if options.json:
        return _print_json({"steps": [_step(step) for work in works for step in work.steps]})
    table = Table("group", "generation", "intervals", "from", "to", "why", box=None)
    for work in works:
        for why, spans in _reasons(work).items():
            merged = merge(spans)
            table.add_row(work.group.name, str(work.generation), str(len(spans)), iso(merged[0].start), iso(merged[-1].end), why)
    out.print(table if table.row_count else "nothing is due")
    return DONE


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
            err.print(f"[yellow]{r.source}: {n} rows in quarantine: {_plain(reason)}[/]")
        for reason in r.refused:
            err.print(f"[red]{r.source}: refused {_plain(reason)}[/]")
    if any(r.refused for r in reports):
        return MISTAKE
    return REJECTED if any(r.quarantined for r in reports) else DONE


def _materialize(options: argparse.Namespace) -> int:
    with _progress() as say, _project(options, say) as p:
        results = p.materialize(*options.groups, start=options.start, end=options.end)
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
    return REJECTED if any(r.rejected for r in results) else DONE


def _status(options: argparse.Namespace) -> int:
    with _project(options) as p:
        found, tables = p.status(*options.groups), p.tables(*options.groups)
    if options.json:
        return _print_json({"intervals": [_interval(s) for s in found], "tables": tables})
    out.print(_status_table(found, tables))
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
    from serving import app, server

    def ready(port: int) -> None:
        err.print(f"serving {', '.join(p.catalog.services)} at http://{options.host}:{port} (ctrl-c stops)")

    with _project(options) as p:
        served = app.App(p.catalog.services, project=p.settings.name, store=AsyncStore(p.store_url()), clock=lambda: datetime.now(UTC))
        server.run(served, host=options.host, port=options.port, ready=ready)
    return DONE


def _get(options: argparse.Namespace) -> int:
    from serving.answer import parse_entity

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
        out.print("stopped the embedded online store; its data stays" if p.down() else "the embedded online store was not running")
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


def _print_json(document: object) -> int:
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    return DONE


# -------------------------------------------------------------------------------------------------------------------- as tables


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
    mistakes: tuple[type[Exception], ...] = (
        DefinitionError,
        settings.SettingsError,
        plan.RangeError,
        headwater.Unknown,
        headwater.InputRefused,
        *_refusals(),
    )
    if isinstance(error, mistakes):
        err.print(f"[red]error:[/] {_plain(str(error))}")
        return MISTAKE
    err.print(f"[red]failed:[/] {_plain(_sentence(error))}")
    with contextlib.suppress(OSError):
        state = settings.project_folder(getattr(options, "project", None)) / ".headwater"
        if state.is_dir():
            (state / "last-error.log").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            err.print(f"[dim]details: {state / 'last-error.log'}[/]")
    return FAILED


def _refusals() -> tuple[type[Exception], ...]:
    """Errors of the caller's input that live in parts which were loaded; a part that was not loaded raised none."""
    found = (
        ("spark_jobs.files", "FileRefused"),
        ("spark_jobs.training_set", "SpineRefused"),
        ("serving.answer", "RequestError"),
        ("examples.starter", "FolderRefused"),
        ("online_sync.store", "StoreAddressError"),
        ("serving.server", "CannotListen"),
    )
    return tuple(getattr(sys.modules[module], name) for module, name in found if module in sys.modules)


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
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--project", metavar="DIR", default=argparse.SUPPRESS, help="the project's folder (default: the current one)")
    listed = argparse.ArgumentParser(add_help=False)
    listed.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument("groups", nargs="*", metavar="GROUP", help="feature groups (none: all)")
    ranged = argparse.ArgumentParser(add_help=False)
    ranged.add_argument("--from", dest="start", metavar="DATE", help="only intervals that start at or after this date (UTC)")
    ranged.add_argument("--to", dest="end", metavar="DATE", help="only intervals that end at or before this date: it is exclusive")
    parser = argparse.ArgumentParser(
        prog="headwater",
        description="Features that are correct in time, everywhere.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Not from the parent: argparse would share the option, and its default would undo what stands before the verb.
    parser.add_argument("--project", metavar="DIR", help="the project's folder (default: the current one)")
    parser.set_defaults(json=False)
    verbs = parser.add_subparsers(required=True, metavar="VERB", title="verbs")

    def verb(name: str, action: Callable[[argparse.Namespace], int], about: str, example: str, *parents: argparse.ArgumentParser) -> Any:
        made = verbs.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {example}\n\n{EPILOG}",
            parents=[common, *parents],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(verb=action)
        return made

    demo = verb("demo", _demo, "Run everything on real flights of New York.", "headwater demo")
    demo.add_argument("--shift", choices=("auto", "none"), default="auto", help="auto: flights of 2013 happen now; none: they stay in 2013")
    init = verb("init", _init, "Make a project with a small catalog and data.", "headwater init my_features")
    init.add_argument("folder", metavar="DIR", help="the new project's folder")
    verb("check", _check, "Check every definition, in seconds, without Java or data.", "headwater check", listed)
    verb(
        "plan",
        _plan,
        "Show what materialize would do, and why.",
        "headwater plan customer_spend --from 2026-01-01 --to 2026-02-01",
        some,
        ranged,
        listed,
    )
    ingest = verb("ingest", _ingest, "Bring new and changed files into the sources' tables.", "headwater ingest", listed)
    ingest.add_argument("groups", nargs="*", metavar="NAME", help="sources, or groups whose source is meant (none: all)")
    verb(
        "materialize",
        _materialize,
        "Compute, judge and publish what is missing or stale.",
        "headwater materialize customer_spend --from 2026-01-01 --to 2026-02-01   # January; --to is exclusive",
        some,
        ranged,
        listed,
    )
    verb("status", _status, "Show the state of every interval, and why.", "headwater status customer_spend --json", some, listed)
    training = verb(
        "training-set",
        _training_set,
        "Join a spine with features as they were known at its times.",
        "headwater training-set --spine labels.parquet --service churn_v1 --mode as_known",
        listed,
    )
    training.add_argument("name", nargs="?", metavar="NAME", help="a training set of the catalog, or the name of the one to make")
    training.add_argument("--spine", metavar="PATH", help="CSV, Parquet or Delta with the keys and event_timestamp")
    training.add_argument("--service", metavar="SERVICE", help="the feature service to join to the spine")
    training.add_argument("--mode", choices=("as_known", "event_time", "as_served"), help="which clock to read by")
    verb("sync", _sync, "Bring the newest values to the online store (Feast calls this materialize).", "headwater sync", some, listed)
    serve = verb("serve", _serve, "Answer feature requests over HTTP.", "headwater serve --port 8000")
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="the port, 0 for a free one (default: 8000)")
    serve.add_argument("--host", default="127.0.0.1", metavar="HOST", help="the address to listen at (default: this machine only)")
    get = verb(
        "get", _get, "Ask for the features of one entity, as the serving layer answers.", "headwater get customer_v1 customer_id=42", listed
    )
    get.add_argument("service", metavar="SERVICE", help="a feature service")
    get.add_argument("keys", nargs="*", metavar="key=value", help="the entity's keys")
    verb("down", _down, "Stop the project's embedded online store; its data stays.", "headwater down")
    return parser
