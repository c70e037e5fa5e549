"""The verbs of the online store: bring values to it, ask it, stop it."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

import headwater.project
from feature_definitions import settings
from feature_definitions.counted import counted
from headwater import documents, output
from headwater.commands import without
from headwater.commands.verb import DONE, FAILED, Call, Group, Groups, Keys, pairs, verb

if TYPE_CHECKING:
    from online_sync.sync import Depth

app = typer.Typer()
ONLINE = "Online"


@verb(app, example="headwater sync", panel=ONLINE)
def sync(
    call: Call,
    *,
    groups: Groups,
    verify: Annotated[bool, typer.Option("--verify", help="compare all rows with the store, not a sample")] = False,
    full: Annotated[bool, typer.Option("--full", help="write all rows anew")] = False,
    limit: Annotated[str | None, typer.Option(metavar="SIZE", help="refuse a new group that would take more memory, like 500MB")] = None,
    take_over: Annotated[bool, typer.Option("--take-over", help="put this lake's rows in place of another lake's")] = False,
) -> int:
    """Bring the newest values to the online store (Feast calls this materialize); ends with 1 where some rows differ afterwards."""
    with output.progress() as say, call.project(say) as p:
        without.telemetry()
        without.pandas()
        depth: Depth = "full" if full else "verify" if verify else "as needed"
        epochs = p.sync(*groups, depth=depth, other_lake="take over" if take_over else "refuse", limit=limit)
        warnings = p.store_warnings() if epochs else []
    for warning in warnings:
        output.warn(warning)
    for each in (each for each in epochs if not each.holds):
        output.warn(f"{each.group} differs online from what was brought; repair it: headwater parity --repair {each.group}")
    rows = [
        (e.group, e.epoch, e.coverage, f"{e.rows:,}", f"{e.written:,}", f"{e.compared:,}", f"{e.repaired:,}", output.size(e.bytes))
        for e in epochs
    ]
    shown = output.table("group", "epoch", "coverage", "entities", "written", "compared", "repaired", "memory", rows=rows)
    said = shown if epochs else "nothing is published yet; run `headwater materialize` first"
    call.answer(documents.sync(epochs, warnings), said)
    return DONE if all(each.holds for each in epochs) else FAILED


@verb(app, example="headwater push last_page clicks.jsonl", panel=ONLINE)
def push(
    call: Call, *, group: Group, file: Annotated[str, typer.Argument(metavar="FILE", help="rows as CSV, JSON lines or Parquet")]
) -> int:
    """Make a file's rows, in the columns of the group's source, rows of the group at once: in the lake, and then online."""
    with output.progress() as say, call.project(say) as p:
        taken = p.push(group, file)
    there = f" ({taken.known:,} of them lay there already)" if taken.known else ""
    return call.answer(documents.push(taken), f"pushed {counted(taken.rows, 'row')} to {group}{there}")


@verb(app, example="headwater parity --full", panel=ONLINE)
def parity(
    call: Call,
    *,
    groups: Groups,
    full: Annotated[bool, typer.Option("--full", help="compare all rows, and look for rows of nobody")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="sync again what differs")] = False,
) -> int:
    """Compare what lies online with what the last sync had to bring; ends with 1 where they differ."""
    with output.progress() as say, call.project(say) as p:
        found = p.parity(*groups, scope="full" if full else "sample", then="repair" if repair else "nothing")
    rows = [(e.group, e.epoch, e.compared, e.equal, e.older, e.newer, e.other, e.missing, e.extra, f"{e.share:.4f}") for e in found]
    columns = ("group", "epoch", "compared", "equal", "older", "newer", "other", "missing", "extra", "parity")
    said = (
        output.table(*columns, rows=[tuple(map(str, row)) for row in rows])
        if found
        else "nothing is online yet; run `headwater sync` first"
    )
    call.answer(documents.parity(found), said)
    return DONE if all(each.holds for each in found) else FAILED


@verb(app, example="headwater rollback customer_spend", panel=ONLINE)
def rollback(
    call: Call,
    *,
    group: Group,
    generation: Annotated[int | None, typer.Option(metavar="N", help="another generation, instead of the sync before the last")] = None,
) -> int:
    """Bring a group's rows of the sync before the last back online; the next sync brings the newest again."""
    with output.progress() as say, call.project(say) as p:
        done = p.rollback(group, generation)
    said = f"{group} is online as it was known at {done.synced_at:%Y-%m-%d %H:%M:%S} UTC ({done.rows:,} entities)"
    return call.answer(documents.rollback(done), said)


@verb(app, example="headwater erase customer customer_id=42", panel=ONLINE)
def erase(
    call: Call,
    *,
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="a kind of entity, as the catalog names it")],
    keys: Keys,
    lift: Annotated[bool, typer.Option("--lift", help="let it be online again")] = False,
) -> int:
    """Take an entity from the online store at once, and let no sync bring it back; the lake keeps what it has."""
    with output.progress() as say, call.project(say) as p:
        asked, kept = p.parse_entity(pairs(keys), entity=entity), p.kept_of(entity)
        found = documents.lift(entity, asked, p.lift_erasure(entity, asked), kept) if lift else None
        found = found or documents.erase(entity, asked, p.erase(entity, asked), kept)
    rows = [(each.group, each.state, "" if each.epoch is None else each.epoch) for each in found.groups]
    stays = (
        "" if lift or not kept else "the lake keeps its rows, in " + ", ".join(kept) + "; take its events away where they come from, too"
    )
    return call.answer(found, output.table("group", "state", "epoch", rows=rows), stays)


@verb(app, example="headwater get customer_v1 customer_id=42", panel=ONLINE)
def get(call: Call, *, service: Annotated[str, typer.Argument(metavar="SERVICE", help="a feature service")], keys: Keys) -> int:
    """Ask for the features of one entity, as the serving layer answers."""
    with call.project() as p:
        without.telemetry()
        results = p.online(service, [p.parse_entity(pairs(keys), service=service)])["results"]
    (result,) = results
    rows = [
        (name, json.dumps(value), result["status"][name.split("__")[0]], result["event_timestamp"][name.split("__")[0]])
        for name, value in result["values"].items()
    ]
    return call.answer(documents.get(results), output.table("feature", "value", "status", "event timestamp", rows=rows))


@verb(app, example="headwater down", panel=ONLINE)
def down(call: Call) -> int:
    """Stop the project's embedded online store; its data stays."""
    with headwater.project.undefined(settings.project_folder(call.folder), say=output.err.print) as p:
        stopped = p.down()
    said = "stopped the embedded online store; its data stays" if stopped else "the embedded online store was not running"
    return call.answer(documents.DownDocument(stopped=stopped), said)
