"""What the command prints for people: consoles, progress, tables."""

import contextlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from feature_definitions.counted import counted
from feature_definitions.intervals import Interval, iso, merge
from feature_definitions.planning import plan
from feature_definitions.planning.cost import CostEstimate
from feature_definitions.planning.plan import GroupPlan, IntervalStatus
from headwater.documents import Document, as_text, text
from headwater.open_project import Say

MOST_NAMED, LONGEST_ROW = 5, 160
"""So many intervals of a group are named one by one, and so many signs of a row are shown."""

if sys.stdout is None or sys.stderr is None:  # somebody closed them: then there is nobody to tell
    sys.stdout, sys.stderr = (stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w") for stream in (sys.stdout, sys.stderr))
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def stdout_is_ours() -> Iterator[None]:
    """What a catalog or one of its functions prints goes to stderr: stdout has what we answer, such as one JSON document."""
    out.file = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        out.file = None  # type: ignore[assignment]  # whatever sys.stdout is then


def print_json(document: Document) -> None:
    """Print one document, at once."""
    out.file.write(text(document) + "\n")
    out.file.flush()


def mistake(sentence: str) -> None:
    """Tell callers what their mistake was."""
    err.print(f"[red]error:[/] {plain(sentence)}")


def warn(sentence: str) -> None:
    """Tell of what was done, but not as it should be."""
    err.print(f"[yellow]{plain(sentence)}[/]")


def refuse(sentence: str) -> None:
    """Tell of what was not taken."""
    err.print(f"[red]{plain(sentence)}[/]")


def plain(text: str) -> str:
    """Text that rich shall print as it is."""
    return text.replace("[", "\\[")


@contextlib.contextmanager
def progress() -> Iterator[Say]:
    """Say what long work is doing: a live line on a terminal, plain lines elsewhere; always on stderr."""
    if not err.is_terminal:
        yield lambda text: err.print(text, markup=False)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as live:
        task: list[TaskID] = []

        def say(text: str) -> None:
            for old in task:
                live.update(old, completed=1)
                live.console.print(f"[dim]{plain(live.tasks[0].description)}[/]")
                live.remove_task(old)
            task[:] = [live.add_task(text, total=None)]

        yield say


def table(*columns: str, rows: Iterable[Sequence[object]]) -> Table:
    """A table of plain text; what is None is a dash."""
    made = Table(*columns, box=None)
    for row in rows:
        made.add_row(*(plain(_cell(value)) for value in row))
    return made


def _cell(value: object) -> str:
    """A value as a table shows it."""
    return "-" if value is None else as_text(value)


def size(count: int | None) -> str:
    """Bytes as a person says them."""
    if count is None:
        return "-"
    for unit, bytes_of_it in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_of_it:
            return f"{count / bytes_of_it:.1f} {unit}"
    return f"{count} B"


def warn_brought(report: Any, *, with_id: Collection[str]) -> None:
    """Tell what of a source was put aside, left for later or refused; the rows of sources `with_id` count once."""
    where = "not read where they lie" if report.in_place else "in quarantine"
    for reason, n in report.reasons.items():
        warn(f"{report.source}: {counted(n, 'row')} {where}: {reason}")
    copied = "rows of one id count once" if report.source in with_id else "its rows count twice"
    for name, original in report.copies.items():
        warn(f"{report.source}: {name} is a copy of {original}: {copied}; delete one if it is a mistake")
    if report.renamed:
        name, old = next(iter(report.renamed.items()))
        more = f" and {len(report.renamed) - 1:,} more are too" if len(report.renamed) > 1 else ""
        warn(f"{report.source}: {name} is {old} under another name{more}: the rows are there already")
    for name, reason in report.waiting.items():
        warn(f"{report.source}: {name} is left for the next time: {reason}")
    for hint in report.hints:
        warn(f"{report.source}: {hint}")
    for reason in report.refused:
        refuse(f"{report.source}: refused {reason}")
    if report.failed is not None:
        mistake(report.failed)


# -------------------------------------------------------------------------------------------------------------- plans and states


def plan_table(works: Iterable[GroupPlan]) -> Table:
    """The intervals that are due, by group and reason."""
    rows = []
    for work in works:
        for why, spans in _reasons(work).items():
            merged = merge(spans)
            rows.append((work.group.name, work.generation, len(spans), merged[0].start, merged[-1].end, why))
    return table("group", "generation", "intervals", "from", "to", "why", rows=rows)


def _reasons(work: GroupPlan) -> dict[str, list[Interval]]:
    reasons: dict[str, list[Interval]] = {}
    for s in work.due:
        reasons.setdefault(f"{s.status}: {'; '.join(s.reasons)}", []).append(s.interval)
    return reasons


def cost_table(costs: Iterable[CostEstimate]) -> Table:
    """What plans take, and what they make out of date."""
    columns = ("group", "intervals", "files to read", "bytes", "about seconds", "out of date then")
    return table(*columns, rows=((c.group, f"{c.intervals:,}", f"{c.files:,}", size(c.bytes), _seconds(c), _stale(c)) for c in costs))


def _seconds(c: CostEstimate) -> str:
    return "?" if c.seconds is None else f"{c.seconds:.0f}"


def _stale(c: CostEstimate) -> str:
    names = (*c.stale.groups, *(f"training set {name}" for name in c.stale.training_sets), *(["online"] if c.stale.online else []))
    return ", ".join(names) or "nothing"


def swept(found: Any) -> list[str]:
    """What was left by runs that were cut off, in a line; none if nothing was."""
    counted = {"staging folders": found.staging, "unfinished uploads": found.uploads, "files": found.files}
    said = ", ".join(f"{count:,} {name}" for name, count in counted.items() if count)
    return [f"left by runs that were cut off, and deleted now: {said}"] if said else []


def aside_table(found: Iterable[Any]) -> Table:
    """What is put aside, by source or group and reason, with one example each."""
    rows = [(a.name, f"{a.rows:,}", a.intervals, a.reason, _example(a.examples[0]) if a.examples else None) for a in found]
    return table("source or group", "rows", "intervals", "reason", "for example", rows=rows)


def _example(one: Any) -> str:
    """One row that is put aside, on a line."""
    if one.interval_start is not None:
        return f"{iso(one.interval_start)}: " + " ".join(f"{name}={as_text(value)}" for name, value in one.row.items())[:120]
    place = f"{one.file}:{one.line}" if one.line is not None else str(one.file)
    return place if one.column is None else f"{place}: {one.column}={one.value!r}"


def retried_lines(retried: Iterable[Any]) -> Iterator[str]:
    """What became of what was judged again."""
    for each in (one for one in retried if one.failed is None):
        before, after = each.before, each.after
        gone = f"{before.rows - after.rows:,} of {counted(before.rows, 'row')}"
        intervals = f", {before.intervals - after.intervals} of {counted(before.intervals, 'interval')}" if before.intervals else ""
        yield f"{each.name}: {gone}{intervals} are put aside no more"


def status_table(found: Sequence[IntervalStatus], tables: Mapping[str, str], *, none: str) -> Table:
    """The states of intervals: neighbours of one status and reason together; `none` is why a group has none."""
    rows: list[Sequence[object]] = []
    by_group: dict[str, list[IntervalStatus]] = {}
    for each in found:
        by_group.setdefault(each.group, []).append(each)
    for group, path in tables.items():
        mine = by_group.get(group, [])
        for status, reasons, some in _runs(mine):
            span = some[0].interval.start, some[-1].interval.end
            rows.append((group, status, len(some), *span, f"{sum(s.rows or 0 for s in some):,}", "; ".join(reasons)))
        if not mine:
            rows.append((group, None, 0, None, None, None, f"{none} (table: {path})"))
    return table("group", "status", "intervals", "from", "to", "rows", "why", rows=rows)


def _runs(found: Sequence[IntervalStatus]) -> list[tuple[str, tuple[str, ...], list[IntervalStatus]]]:
    """Neighbouring intervals of one status and reason, together."""
    runs: list[tuple[str, tuple[str, ...], list[IntervalStatus]]] = []
    for s in found:
        if runs and runs[-1][:2] == (s.status, s.reasons):
            runs[-1][2].append(s)
        else:
            runs.append((s.status, s.reasons, [s]))
    return runs


def warn_rejected(result: Any, advice: Mapping[tuple[str, Interval], Any]) -> None:
    """One line per rejected interval of a run, the first few: what failed, an example row, the report, what to do."""
    for interval, failed in result.rejected[:MOST_NAMED]:
        given = advice.get((result.group, interval))
        more = f"; {said}" if given is not None and (said := advice_sentence(given)) else ""
        warn(f"{result.group} {interval} rejected: {', '.join(failed)}{more}")
    if len(result.rejected) > MOST_NAMED:
        warn(f"{result.group}: and {len(result.rejected) - MOST_NAMED} more; `headwater status {result.group}` lists them")


def deciding(group: str, run: str) -> str:
    """The commands by which a person decides on a run that waits."""
    return f"publish it: headwater publish {group} --run {run}, or add --refuse"


def advice_lines(advice: Mapping[tuple[str, Interval], Any]) -> Iterator[str]:
    """Advice about intervals, a line each."""
    return (plain(f"{group} {interval}: {advice_sentence(given)}") for (group, interval), given in advice.items())


def advice_sentence(given: Any) -> str:
    """Advice about an interval on one line, to stand behind what is wrong; empty if there is none to give."""
    said = [] if given.example is None else [f"for example {_row(given.example)}"]
    said += [] if given.report is None else [f"report: {given.report}"]
    if given.approve is not None:
        said.append(deciding(given.group, given.approve))
    if given.correct:
        pass_by = f", or let later ones pass: {given.release}" if given.release else ""
        said.append(f"correct {' or '.join(given.correct)}{pass_by}")
    return "; ".join(said)


def _row(row: Mapping[str, Any]) -> str:
    """The values of a row, on a short line."""
    shown = " ".join(f"{name}={as_text(value)}" for name, value in row.items() if value is not None)
    return shown if len(shown) <= LONGEST_ROW else f"{shown[:LONGEST_ROW]}…"


def warn_waiting(found: Sequence[IntervalStatus], works: Sequence[GroupPlan] = ()) -> None:
    """One line per group of which intervals wait for rejected ones, with the command that lets them pass.

    What a plan leaves alone only because its range leaves out an interval that is to be tried again is said too.
    """
    awaiting, waiting = _warn_awaiting(found), dict[str, list[IntervalStatus]]()
    for s in found:
        if s.status == plan.WAITING and s.run is None:
            waiting.setdefault(s.group, []).append(s)
    for group, some in waiting.items():
        rejected = [awaited for s in some for awaited in s.waits_for if awaited.group == group and awaited.status == plan.REJECTED]
        which = _which(group, some)
        if not rejected:
            warn(f"{which}: the first {some[0].reasons[0]}")
            continue
        first, last = min(each.first for each in rejected), max(each.last for each in rejected)
        holders = [s for s in found if s.group == group and s.holds and s.status == plan.REJECTED and first <= s.interval <= last]
        gate = f"{first}, which the gate rejected" if len(holders) == 1 else f"{len(holders)} that the gate rejected"
        warn(
            f"{which} {'waits' if len(some) == 1 else 'wait'} for {gate}; correct its data, "
            f"or let them pass: headwater release {group} --from {iso(first.start)} --to {iso(last.end)}"
        )
    for work in works:
        if work.waiting and work.group.name not in (*waiting, *awaiting):
            which = _which(work.group.name, work.waiting)
            left, why = "is" if len(work.waiting) == 1 else "are", work.waiting[0].reasons[0]
            warn(f"{which} {left} left alone: the first {why}; it is to be tried again, so take it into the range")


def _warn_awaiting(found: Sequence[IntervalStatus]) -> set[str]:
    """One line per run that waits for a person, with what warned and the commands that end it; gives the groups."""
    runs: dict[tuple[str, str], list[IntervalStatus]] = {}
    for s in found:
        if s.run is not None:
            runs.setdefault((s.group, s.run), []).append(s)
    for (group, run), some in runs.items():
        said = dict.fromkeys(reason for s in some for reason in s.reasons[1:])
        why, wait = f" ({'; '.join(said)})" if said else "", "waits" if len(some) == 1 else "wait"
        warn(f"{_which(group, some)} {wait} for approval of run {run}{why}; {deciding(group, run)}")
    return {group for group, _ in runs}


def _which(group: str, some: Sequence[IntervalStatus]) -> str:
    return f"{group}: {counted(len(some), 'interval')} from {iso(some[0].interval.start)} to {iso(some[-1].interval.end)}"


# ------------------------------------------------------------------------------------------------------------- the story of a value


def training_lines(manifest: Any) -> Iterator[Any]:
    """A training set for a person: its dates, how the rows of each join were found, and what its leak report says, the worst first."""
    spine = manifest["spine"]
    if spine["first"] is not None:
        yield f"{spine['first']} to {spine['last']}, mode {manifest['mode']}"
    joins = manifest.get("statistics", {}).get("joins", {})
    statuses = ("PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND", "HELD")
    rows = ((name, *(_share(found["shares"][status]) for status in statuses)) for name, found in joins.items())
    if joins and manifest["rows"]:
        yield table("join", *statuses, "on MODELLED times", rows=(
            (*row, _share(found["on_modelled_times"])) for row, found in zip(rows, joins.values(), strict=True)
        ))  # fmt: skip
    leaks = manifest.get("leaks")
    if leaks and leaks["shift"]["rows"]:
        yield f"{leaks['shift']['rows']} rows computed again without what came after their time: {leaks['shift']['moved']} differ"
        yield from (plain(sentence) for sentence in leaks["sentences"])


def verified_lines(found: Any) -> Iterator[Any]:
    """What was found of a version of a training set: the verdict, then what is wrong, then what cannot be read any more."""
    told = {"equal": "equal: its rows are those that were written, and come out again", "differs": "it differs"}
    yield f"[bold]{found.name}[/] version {found.version}, {counted(found.rows, 'row')}: {told.get(found.verdict, found.verdict)}"
    yield from (plain(f"damaged: {column} holds other values than were written") for column in found.damaged)
    for column, rows in found.differing.items():
        where = "in rows that cannot be told" if rows is None else f"in {counted(rows, 'row')}"
        yield plain(f"differs: {column} comes out otherwise {where}")
    yield from (plain(f"cannot be built again: {sentence}") for sentence in found.changed)
    yield from (plain(f"gone: {sentence}") for sentence in found.gone)
    if found.spine == "training set":
        yield "the spine's rows were taken from the training set itself"


def diff_lines(found: Any) -> Iterator[Any]:
    """How two versions of training sets differ: rows first, then columns, then what those hold that changed."""
    first, second, rows = found.first, found.second, found.rows
    yield f"[bold]{first.name}[/] version {first.version} and [bold]{second.name}[/] version {second.version}"
    said = ", ".join(f"{getattr(rows, what):,} {what}" for what in ("added", "removed", "changed", "same"))
    yield f"rows by {', '.join(found.identity)}: {said}"
    for what in ("added", "removed"):
        columns = getattr(found, f"columns_{what}")
        if columns:
            yield f"columns {what}: {', '.join(columns)}"
    yield from (f"{each.column} is {each.type_to}, and was {each.type_from}" for each in found.retyped)
    moved = [each for each in found.columns if each.changed or each.nulls_from != each.nulls_to or each.mean_from != each.mean_to]
    rows_of = [(each.column, f"{each.changed:,}", each.nulls_from, each.nulls_to, *_numbers(each)) for each in moved]
    if moved:
        yield table("column", "rows changed", "missing", "then", "mean", "then", "shift", rows=rows_of)


def _numbers(each: Any) -> tuple[str | None, ...]:
    return tuple(None if number is None else f"{number:.4g}" for number in (each.mean_from, each.mean_to, each.shift))


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def failed_checks(manifest: Any) -> Iterator[str]:
    """What a training set's checks found that did not hold: how many rows, and where the first ones stand in the spine."""
    for check in manifest.get("expectations", ()):
        if check["passed"]:
            continue
        if "value" in check:
            yield f"{check['check']} ({check['severity']}): it is {check['value']}"
        else:
            places = ", ".join(str(row["hw_row"]) for row in check["rows"])
            yield f"{check['check']} ({check['severity']}): {counted(check['bad_rows'], 'row')}; the first have hw_row {places}"


def story_lines(story: Any) -> Iterator[Any]:
    """What `explain` tells a person: the answer, what it rests on, the values, the events."""
    keys = " ".join(f"{key}={value}" for key, value in story.asked.entity.items())
    yield f"[bold]{story.asked.group.name} {plain(keys)}[/] as known at {iso(story.asked.at)}: [bold]{story.status}[/]"
    facts = Table.grid(padding=(0, 2))
    for name, said in _facts(story):
        facts.add_row(f"  {name}", plain(said))
    yield facts
    yield table("feature", "value", rows=story.values.items())
    if story.window is not None and story.event_count is None:
        yield f"the events of {story.source} in {story.window} are not listed: only Spark reads them where they lie{story.look}"
    elif story.window is not None and story.source is not None:
        yield f"{counted(story.event_count, 'event')} of {story.source} in {story.window}, as they are now{_among(story)}"
    if story.events:
        yield table(*story.events[0], rows=[tuple(event.values()) for event in story.events])
    if (story.event_count or 0) > len(story.events):
        yield f"and {story.event_count - len(story.events)} older ones"


def _among(story: Any) -> str:
    """What is said where rows may be listed that the source puts aside: of a table in place only Spark tells which."""
    aside = f"{counted(story.aside, 'row')} of it put aside, which may be among them"
    return f"; {aside}: `headwater quarantine {story.source}`" if story.aside else ""


def _facts(story: Any) -> Iterator[tuple[str, str]]:
    """What a story's values rest on, each fact by its name."""
    version, run = story.version, story.run
    if version is not None:
        p = version.publish
        modelled = " (history: interval end and publish delay)" if p.basis == "MODELLED" else ""
        replaced = f", replaced by {version.replaced_by}" if version.replaced_by else ""
        yield "row", f"{iso(version.event_timestamp)}, of the interval {p.interval}, generation {story.generation}"
        yield "published", f"{p.publish_id}{replaced}"
        yield "known from", f"{iso(p.known_from)}, {p.basis}{modelled}"
    if run is not None:
        verdict = ", ".join((*run["failed"], *(f"warning: {name}" for name in run["warned"])))
        yield "run", f"{run['run_id']}, of revision {run['revision']}: {run['state']}" + (f" ({verdict})" if verdict else "")
    if story.coverage is not None:
        yield "coverage", f"{iso(story.coverage)}: the newest interval's end that was visible"
    for later in story.later:
        yield "later", f"{later.publish.publish_id} gave other values, known from {iso(later.publish.known_from)}"
