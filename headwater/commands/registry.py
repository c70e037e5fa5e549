"""The verbs that ask and keep what is remembered."""

from typing import Annotated

import typer

from headwater import documents, output
from headwater.commands.verb import Call, Group, Keys, epilog, pairs, verb
from headwater.documents import HeldLease

app = typer.Typer()
REMEMBERED = "What is remembered"
REBUILD = "headwater registry rebuild   # ledger, publishes, revisions, files, generations, releases, syncs"
MOVE = "headwater registry move --to postgresql://headwater@db.example:5432/headwater"
LEASES = "headwater registry leases   # process, host, since when, and whether another may take it over"
registry = typer.Typer(help="Keep the registry.", epilog=epilog(REBUILD))
app.add_typer(registry, name="registry", rich_help_panel=REMEMBERED)


@verb(app, example="headwater explain customer_spend customer_id=42 --at 2026-01-06", panel=REMEMBERED)
def explain(
    call: Call,
    *,
    group: Group,
    keys: Keys,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="as it was known then, in UTC (default: now)")] = None,
) -> int:
    """Tell the story of one value: the row, since when it was known, the run and the events behind it."""
    with call.project() as p:
        story = p.explain(group, p.parse_entity(pairs(keys), group=group), at=at)
    return call.answer(documents.explain(story), *output.story_lines(story))


@verb(registry, example=REBUILD)
def rebuild(
    call: Call,
    *,
    replace: Annotated[bool, typer.Option("--replace", help="also over a registry that holds something: all of it is replaced")] = False,
) -> int:
    """Restore the registry from the lake alone, after it was lost."""
    with call.project() as p:
        found = documents.registry_rebuild(p.rebuild_registry(over="anything" if replace else "nothing"))
    return call.answer(
        found,
        "restored from the lake: " + ", ".join(f"{n:,} {name}" for name, n in documents.counts(found.restored).items()),
        "not restored: tiles (they are built again when they are needed)",
    )


@verb(registry, example=MOVE)
def move(
    call: Call,
    *,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="the other database, like postgresql://user@host:5432/database")],
    replace: Annotated[bool, typer.Option("--replace", help="also over a database that holds something: all of it is replaced")] = False,
) -> int:
    """Move the registry to another database, with all that it remembers, or leave everything as it is."""
    with output.progress() as say, call.project(say=say) as p:
        done = documents.registry_move(p.move_registry(to, over="anything" if replace else "nothing"))
    return call.answer(
        done,
        f"moved from {done.moved_from} to {done.moved_to}: "
        + ", ".join(f"{n:,} {name}" for name, n in documents.counts(done.rows).items()),
        f"now set {done.set}, or registry_url in headwater.toml, to the new one; the old one refuses to be used",
    )


@verb(registry, example=LEASES)
def leases(call: Call) -> int:
    """Show which process works on what, and whether another may take that over because the process is gone or silent."""
    with call.project() as p:
        found = documents.registry_leases(p.leases())
    if not found.leases:
        return call.answer(found, "nobody works on anything")
    columns = HeldLease.__struct_fields__
    rows = [[getattr(lease, column) for column in columns] for lease in found.leases]
    return call.answer(found, output.table(*(column.replace("_", " ") for column in columns), rows=rows))
