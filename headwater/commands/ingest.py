"""The verb that brings data into the lake."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from feature_definitions.counted import counted
from feature_definitions.errors import Unknown
from headwater import documents, output
from headwater.commands.offline import OFFLINE
from headwater.commands.verb import DONE, MISTAKE, REJECTED, Call, verb

if TYPE_CHECKING:
    from spark_jobs.ingest.journal import IngestReport

app = typer.Typer()
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", default_factory=list, show_default=False, help="sources, or groups whose source is meant (none: all)"),
]


@verb(app, example="headwater ingest", panel=OFFLINE)
def ingest(call: Call, *, names: Names) -> int:
    """Bring new and changed files into the sources' tables; find what changed in those that are read in place."""
    reports: list[IngestReport] = []
    with_id: set[str] = set()
    try:
        with output.progress() as say, call.project(say) as p:
            with_id |= {source.name for source in p.catalog.sources.values() if source.id}
            reports.extend(p.ingesting(*names))
    finally:  # what some sources brought is said before what went wrong with others
        if reports:
            _answer(call, reports, with_id)
    if any(r.refused or r.failed for r in reports):
        return MISTAKE
    return REJECTED if any(r.quarantined for r in reports) else DONE


def _answer(call: Call, reports: "list[IngestReport]", with_id: Collection[str]) -> None:
    rows = [(r.source, r.files, f"{r.rows:,}", f"{r.quarantined:,}", r.dates_changed, r.revision) for r in reports if r.failed is None]
    columns = ("source", "files", "rows", "quarantined", "dates changed", "revision")
    if rows or call.as_json:
        call.answer(documents.ingest(reports), output.table(*columns, rows=rows))
    for report in reports:
        output.warn_brought(report, with_id=with_id)


@verb(app, example="headwater quarantine payments --export aside.csv", panel=OFFLINE)
def quarantine(
    call: Call,
    *,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", default_factory=list, show_default=False, help="sources or groups (none: all)")
    ],
    export: Annotated[
        str | None, typer.Option(metavar="FILE", help="write all rows of one source or group to a .csv, .jsonl or .parquet file")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="judge them again, after a fix: read their files again, compute rejected intervals again")
    ] = False,
) -> int:
    """Show what was put aside, by reason, with examples. Its exit code is 0; with --retry it is as that of ingest and materialize."""
    if export is not None and len(names) != 1:
        raise Unknown("--export writes the rows of one source or group: name it, like headwater quarantine payments --export aside.csv")
    with output.progress() as say, call.project(say) as p:
        retried = p.retry_quarantine(*names) if retry else ()
        found = p.quarantine(*names)
        exported = None if export is None else (export, p.export_quarantine(names[0], export))
    document = documents.quarantine(found, retried=retried, exported=exported)
    call.answer(document, output.aside_table(found) if found else "nothing is put aside", *output.retried_lines(retried))
    if exported is not None:
        output.warn(f"wrote {counted(exported[1], 'row')} to {exported[0]}")
    failed = [each.failed for each in retried if each.failed is not None]
    for why in failed:
        output.mistake(why)
    return MISTAKE if failed else REJECTED if any(each.after.any for each in retried) else DONE
