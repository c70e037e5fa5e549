"""The verbs that begin: a demo, a project, a group, a check of what is defined."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

import headwater.project
from feature_definitions import settings
from feature_definitions.counted import counted
from feature_definitions.errors import Unknown
from feature_definitions.language import Jdbc
from feature_definitions.loader import CatalogError
from headwater import beside, documents, output
from headwater.commands.verb import MISTAKE, Call, Group, verb
from headwater.open_project import Say

app = typer.Typer()
BEGIN = "Begin"


@verb(app, example="headwater demo", panel=BEGIN)
def demo(
    call: Call,
    *,
    data: Annotated[Literal["flights", "market"], typer.Argument(help="flights, or market: share prices")] = "flights",
    shift: Annotated[
        Literal["auto", "none"], typer.Option(help="auto: flights of 2013 happen now; none: they stay in 2013", show_default=True)
    ] = "auto",
) -> int:
    """Run everything on real flights of New York, or on daily prices."""
    from examples import demo, market

    folder = Path(call.folder or ("demo" if data == "flights" else data))
    with output.progress() as say:
        opened = partial(headwater.project.open, say=say)
        if data == "flights":
            report = demo.run(folder, shift=shift, say=say, open_project=opened)
        else:
            report = market.run(folder, say=say, open_project=opened)
    if call.as_json:
        output.err.print(report)
    return call.answer(documents.DemoDocument(project=str(folder.resolve())), report)


@verb(app, example="headwater init my_features", panel=BEGIN)
def init(call: Call, *, folder: Annotated[str, typer.Argument(metavar="DIR", help="the new project's folder")]) -> int:
    """Make a project with a small catalog and data."""
    from examples import starter

    made = starter.make(Path(folder))
    document = documents.InitDocument(project=str(made), next=starter.NEXT)
    shown = f"made a project in [bold]{output.plain(str(made))}[/]. Next:\n  cd {output.plain(shlex.quote(folder))}\n  {starter.NEXT}"
    return call.answer(document, shown)


@verb(app, example="headwater new customer_visits --source visits", panel=BEGIN)
def new(
    call: Call,
    *,
    group: Group,
    source: Annotated[str | None, typer.Option(metavar="SOURCE", help="the source that it reads (default: the catalog's only one)")] = None,
    catalog: Annotated[
        str | None, typer.Option(metavar="DIR", help="a catalog folder that is in no project, like feature_definitions/catalog")
    ] = None,
) -> int:
    """Write a new group's file and its test into the catalog, to be changed; never over a file that is there."""
    from examples import draft
    from feature_definitions.check import checked

    project = None if catalog else settings.load(settings.project_folder(call.folder))
    folder = Path(catalog or "").resolve() if project is None else project.catalog
    root = folder.parent if project is None else project.root
    made = draft.draft(group, checked(folder), folder=folder, root=root, source=source)
    draft.write(made)
    return call.answer(
        documents.NewDocument(group=str(made.group_file), test=str(made.test_file)),
        f"wrote {made.group_file}\nand   {made.test_file}\nNext: say in them what the group means, then `headwater check`, then pytest",
    )


@verb(app, example="headwater source payments --from 'data/payments/*.csv'", panel=BEGIN)
def source(
    call: Call,
    *,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="the new source")] = None,
    place: Annotated[
        str | None,
        typer.Option("--from", metavar="PATH", help="a file, a glob in quotes, a folder, a Delta table, or feast:DIR with a repository"),
    ] = None,
    connection: Annotated[str | None, typer.Option(metavar="NAME", help="the database that holds the table, with --table")] = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="a table of the database that --connection names, like sales.payments")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="where times without a zone were written down, like Europe/Berlin")
    ] = None,
) -> int:
    """Look at data and write the definition of a source, to be read and corrected; never over a file that is there.

    The data are files or a Delta table (--from PATH), or a table of a database (--connection NAME --table TABLE). Of a repository of
    Feast's (--from feast:DIR) everything is written: entities, sources, views, services, functions.
    """
    from examples import source_draft

    if place is not None and place.startswith(_FEAST):
        return _of_feast(call, Path(place.removeprefix(_FEAST)).resolve(), name)
    if name is None:
        raise Unknown("name the new source: headwater source payments --from 'data/payments/*.csv'")
    if (place is None) == (table is None) or (table is None) != (connection is None):
        raise Unknown("say where the data are: --from 'data/payments/*.csv', or --connection warehouse --table sales.payments")
    with output.progress() as say, _project(call, say) as p:
        seen = p.sample(place if place is not None else Jdbc(table, connection=str(connection)))
        made = source_draft.draft(name, seen, p.catalog, folder=p.settings.catalog, timezone=timezone)
    source_draft.write(made)
    for question in made.decide:
        output.warn(f"decide before it can be used: {question}")
    shown = [
        f"wrote {output.plain(str(made.file))} by {counted(seen.rows, 'row')}",
        *(f"  check {output.plain(each)}" for each in made.check),
    ]
    document = documents.SourceDocument(source=name, file=str(made.file), rows=seen.rows, decide=list(made.decide), check=list(made.check))
    return call.answer(document, *shown, f"Next: read it and correct it, then `headwater check` and `headwater ingest {name}`")


_FEAST = "feast:"


def _of_feast(call: Call, repo: Path, name: str | None) -> int:
    """Write what a repository of Feast's defines as a file of the catalog, never over one that is there."""
    from examples import source_draft

    found = settings.load(settings.project_folder(call.folder))
    if name is not None:
        source_draft.refuse_over(found.catalog / f"{name}.py")
    said = beside.feast("import", str(found.root), str(repo))
    called = name or f"{said['project']}_of_feast"
    made = source_draft.SourceDraft(found.catalog / f"{called}.py", said["text"], (), tuple(said["left_out"]))
    source_draft.write(made)
    for sentence in made.check:
        output.warn(f"not imported: {sentence}")
    document = documents.SourceDocument(source=called, file=str(made.file), rows=0, decide=[], check=[*made.check])
    return call.answer(document, f"wrote {output.plain(str(made.file))}", "Next: read it and correct it, then `headwater check`")


def _project(call: Call, say: Say) -> headwater.project.Project:
    """The project, in which nothing need be defined yet, and drafts may wait to be decided."""
    try:
        return call.project(say)
    except CatalogError:
        return headwater.project.undefined(settings.project_folder(call.folder), say=say)


@verb(app, example="headwater check", panel=BEGIN)
def check(
    call: Call,
    *,
    data: Annotated[
        bool, typer.Option("--data", help="read a first part of each source's files too; the exit code is 2 if one does not fit")
    ] = False,
) -> int:
    """Check every definition, in seconds, without Java or data."""
    try:
        with call.project() as p:
            unusable = p.unusable_connections()
            misfits = p.misfits() if data else ()
            found = documents.check(p.catalog, connections=unusable, data=misfits if data else None)
    except CatalogError as error:
        if call.as_json:
            output.print_json(documents.mistaken(error.mistakes))
        raise
    for problem in unusable:
        output.warn(problem)
    for misfit in misfits:
        output.refuse(f"{misfit.source}: {misfit.message}")
    fine = "fine: " if not misfits else "the definitions are fine, the data are not: "
    done = call.answer(found, fine + ", ".join(_said(n, name.replace("_", " ")) for name, n in documents.counts(found).items()))
    return MISTAKE if misfits else done


def _said(number: int, plural: str) -> str:
    """So many definitions of a kind."""
    return f"{number} {plural}" if number != 1 else f"1 {'entity' if plural == 'entities' else plural.removesuffix('s')}"
