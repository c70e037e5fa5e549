"""The verbs of the offline tables: what is due, what is there, what readers see."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from feature_definitions.counted import counted
from feature_definitions.planning.approval import Decision
from headwater import documents, output
from headwater.commands.verb import DONE, MISTAKE, REJECTED, Call, Group, Groups, verb

if TYPE_CHECKING:
    from spark_jobs.publish.materialize import Stage

app = typer.Typer()
OFFLINE = "Offline"
JANUARY = "--from 2026-01-01 --to 2026-02-01"

Start = Annotated[str | None, typer.Option("--from", metavar="DATE", help="only intervals that start at or after this date (UTC)")]
End = Annotated[str | None, typer.Option("--to", metavar="DATE", help="only intervals that end at or before this date: it is exclusive")]
Only = Annotated[
    Literal["missing", "stale", "all"] | None,
    typer.Option(
        help="only what was never computed, only what is stale, or all whatever its status, rejected included (default: missing and stale)"
    ),
]
Within = Annotated[
    Literal["range", "restate"],
    typer.Option(
        help="restate: leave alone what late data made stale and is older than the group's restate_within, as scheduled runs do",
        show_default=True,
    ),
]


@verb(app, example=f"headwater plan customer_spend {JANUARY}", panel=OFFLINE)
def plan(call: Call, *, groups: Groups, start: Start = None, end: End = None, only: Only = None, within: Within = "range") -> int:
    """Show what materialize would do and why, and a cost estimate: files, bytes, seconds, what is out of date then."""
    with call.project() as p:
        works = p.plan(*groups, start=start, end=end, only=only or "due", within=within)
        costs = p.cost(works)
        output.warn_waiting(p.status(*groups) if any(work.waiting for work in works) else (), works)
        refused = p.unplanned(*groups)
    due = output.plan_table(works)
    call.answer(
        documents.plan(works, costs, refused=refused),
        due if due.row_count else "nothing is due",
        *(["\ncost estimate", output.cost_table(costs)] if costs else []),
    )
    return _mistakes(refused)


@verb(app, example=f"headwater materialize customer_spend {JANUARY}   # January; --to is exclusive", panel=OFFLINE)
def materialize(  # noqa: PLR0913  # each is an option of the command
    call: Call,
    *,
    groups: Groups,
    start: Start = None,
    end: End = None,
    only: Only = None,
    within: Within = "range",
    bring: Annotated[
        bool, typer.Option("--ingest", help="before it, ingest what is new in the groups' sources, in the same process")
    ] = False,
    stage: Annotated[bool, typer.Option("--stage", help="publish nothing: what passes the gate waits for `headwater publish`")] = False,
) -> int:
    """Compute, judge and publish what is missing or stale."""
    with output.progress() as say, call.project(say) as p:
        brought = list(p.ingesting(*groups)) if bring else None
        with_id = {source.name for source in p.catalog.sources.values() if source.id}
        unread = p.unread(groups, brought or ())
        asked = [name for name in groups or p.catalog.tables if name not in unread]
        what: Stage = "everything" if stage else "as defined"
        results = p.materialize(*asked, start=start, end=end, only=only or "due", within=within, stage=what) if asked else ()
        left = p.plan(*asked, start=start, end=end, only=only or "due", within=within) if asked else ()
        found = p.status(*asked) if any(work.waiting for work in left) or any(r.waiting for r in results) else ()
        advice = p.advice(p.status(*(r.group for r in results if r.rejected))) if any(r.rejected for r in results) else {}
    results = (*results, *unread.values())
    rows = [(r.group, r.generation, r.published, len(r.rejected), len(r.waiting), f"{r.rows:,}", f"{r.seconds:.1f}") for r in results]
    document = documents.materialize(results, brought=brought)
    call.answer(document, output.table("group", "generation", "published", "rejected", "waiting", "rows", "seconds", rows=rows))
    for report in brought or ():
        output.warn_brought(report, with_id=with_id)
    for r in results:
        output.warn_rejected(r, advice)
        if r.refused is not None:
            output.refuse(r.refused if r.group in r.refused else f"group {r.group}: {r.refused}")
    output.warn_waiting(found, left)
    if any(r.refused is not None for r in results):
        return MISTAKE
    return REJECTED if any(r.rejected for r in results) else DONE


@verb(app, example="headwater status customer_spend --json", panel=OFFLINE)
def status(
    call: Call,
    *,
    groups: Groups,
    start: Start = None,
    end: End = None,
    advise: Annotated[
        bool, typer.Option("--advice", help="also what to do about rejected and waiting ones: an example row, the report, the fix")
    ] = False,
) -> int:
    """Show the state of every interval, and why."""
    with call.project() as p:
        found, tables, aside = p.status(*groups, start=start, end=end), p.tables(*groups), p.quarantined(*groups)
        refused, advised = p.unplanned(*groups), p.advice(found) if advise else {}
    output.warn_waiting(found)
    for name, rows in aside.items():
        output.warn(f"{name}: {counted(rows, 'row')} put aside; `headwater quarantine {name}` shows them")
    known = {group: path for group, path in tables.items() if group not in refused}
    given = {key: documents.advice(each, output.advice_sentence(each)) for key, each in advised.items()}
    none = "nothing ingested yet, or no interval is over" if start is None and end is None else "no interval lies in this range"
    shown = () if call.as_json else (output.status_table(found, known, none=none), *output.advice_lines(advised))
    call.answer(documents.status(found, tables, quarantined=aside, refused=refused, advice=given), *shown)
    return _mistakes(refused)


def _mistakes(refused: Mapping[str, str]) -> int:
    """Say which groups cannot be planned, and why; gives the exit code."""
    for why in refused.values():
        output.mistake(why)
    return MISTAKE if refused else DONE


@verb(
    app,
    example="headwater publish customer_spend --run p01767700800000000-3f9a1c   # the run that `status` names",
    panel=OFFLINE,
)
def publish(
    call: Call,
    *,
    group: Group,
    run: Annotated[str, typer.Option(metavar="ID", help="the run that waits, as `materialize` and `status` name it")],
    refuse: Annotated[bool, typer.Option("--refuse", help="do not publish it: its intervals are rejected, and its report stays")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="with --refuse: why; it is kept")] = "",
) -> int:
    """Publish a run that waits for approval, exactly as it was judged, or refuse it."""
    decision: Decision = "refuse" if refuse else "publish"
    with output.progress() as say, call.project(say) as p:
        decided = p.publish(group, run=run, decision=decision, reason=reason)
    ended = decided.ended
    rows, count = sum(entry.rows for entry in ended), counted(len(ended), "interval")
    done = f"refused {count}" if refuse else f"published {count}, {counted(rows, 'row')}"
    said = f"{group}: {done} of run {run}" if ended else f"{group}: run {run} was {'refused' if refuse else 'published'} before"
    call.answer(documents.publish(group, run, decided, decision=decision), said)
    for interval, why in decided.left[: output.MOST_NAMED]:
        output.warn(f"{group}: {interval} is left out: it {why}")
    return DONE


@verb(
    app,
    example="headwater promote customer_spend --generation 1   # back to the first; without --generation: what the definition means",
    panel=OFFLINE,
)
def promote(
    call: Call,
    *,
    group: Group,
    generation: Annotated[int | None, typer.Option(metavar="N", help="which one (default: that of the group's definition)")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="also if it lacks intervals that readers see now")] = False,
) -> int:
    """Give readers another generation of a group to see: its newest meaning, or an older one again."""
    with call.project() as p:
        generations = p.promote(group, generation, accept="gaps" if anyway else "covering")
        outputs = p.catalog.tables[group].outputs
    current = next(g for g in generations if g.current)
    numbers = ", ".join(str(g.number) for g in generations)
    call.answer(documents.promote(group, generations), f"readers of {group} see generation {current.number} of {numbers}")
    if lacking := [column for column in outputs if column not in current.features]:
        output.warn(f"it has no {', '.join(lacking)}: they read as null")
    return DONE


@verb(
    app,
    example='headwater release customer_spend --from 2026-01-05 --to 2026-01-06 --reason "a known outage"   # the rejected day',
    panel=OFFLINE,
)
def release(
    call: Call,
    *,
    group: Group,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="the start of the rejected interval (UTC)")],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="its end, or that of the last one: exclusive")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="why they may pass; it is kept")] = "",
) -> int:
    """Let later intervals pass that wait for a rejected one; the rejected one itself stays invisible."""
    with call.project() as p:
        releases = p.release(group, start=start, end=end, reason=reason)
    lines = (f"released {r.group} {r.interval}: what waited for it is due; `headwater materialize {r.group}` computes it" for r in releases)
    return call.answer(documents.release(releases), *lines)


@verb(app, example="headwater optimize customer_spend --keep 30d", panel=OFFLINE)
def optimize(
    call: Call,
    *,
    groups: Groups,
    keep: Annotated[
        str, typer.Option(metavar="SPAN", help="how long replaced files stay for jobs that read them still (default and least: 7d)")
    ] = "7d",
) -> int:
    """Join small files, delete replaced ones and rows past a group's `retain`; nothing becomes stale by it."""
    with call.project() as p:
        done, lake = p.optimize(*groups, keep=keep), p.settings.lake
        swept = None if groups else p.sweep(keep=keep)
    rows = [
        (t.table.removeprefix(f"{lake}/"), f"{t.files_before:,}", f"{t.files_after:,}", f"{t.deleted_files:,}", t.deleted_before)
        for t in done
    ]
    shown = output.table("table", "files", "now", "deleted from disk", "rows deleted before", rows=rows)
    lines = [] if swept is None else output.swept(swept)
    return call.answer(documents.optimize(done, swept), shown if done else "there is no table yet", *lines)
