"""The verbs of the online store: bring values to it, ask it, stop it."""

import json
from typing import Annotated

import typer

from headwater import documents, output
from headwater.commands.verb import Call, Groups, Keys, pairs, verb

app = typer.Typer()
ONLINE = "Online"


@verb(app, example="headwater sync", panel=ONLINE)
def sync(
    call: Call,
    *,
    groups: Groups,
    take_over: Annotated[bool, typer.Option("--take-over", help="put this lake's rows in place of another lake's")] = False,
) -> int:
    """Bring the newest values to the online store (Feast calls this materialize)."""
    with output.progress() as say, call.project(say) as p:
        epochs = p.sync(*groups, other_lake="take over" if take_over else "refuse")
    rows = [(e.group, e.epoch, e.coverage, f"{e.rows:,}", f"{e.written:,}", f"{e.repaired:,}") for e in epochs]
    shown = output.table("group", "epoch", "coverage", "entities", "written", "repaired", rows=rows)
    return call.answer(documents.sync(epochs), shown if epochs else "nothing is published yet; run `headwater materialize` first")


@verb(app, example="headwater get customer_v1 customer_id=42", panel=ONLINE)
def get(call: Call, *, service: Annotated[str, typer.Argument(metavar="SERVICE", help="a feature service")], keys: Keys) -> int:
    """Ask for the features of one entity, as the serving layer answers."""
    with call.project() as p:
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
    with call.project() as p:
        stopped = p.down()
    said = "stopped the embedded online store; its data stays" if stopped else "the embedded online store was not running"
    return call.answer(documents.DownDocument(stopped=stopped), said)
