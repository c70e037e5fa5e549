"""The verbs of training sets: build one, and look after those that are built."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from feature_definitions.counted import counted
from feature_definitions.errors import Unknown
from headwater import documents, inputs, output
from headwater.commands.verb import DONE, FAILED, REJECTED, Call, Words, epilog, pairs, verb

if TYPE_CHECKING:
    from spark_jobs.training.build import Built

app = typer.Typer()
BUILD = "headwater training-set build --spine labels.parquet --service churn_v1 --mode as_known"
training_sets = typer.Typer(
    cls=Words.with_default("build"), help="Build training sets, and look after them: `training-set NAME` builds.", epilog=epilog(BUILD)
)
app.add_typer(training_sets, name="training-set", rich_help_panel="Training")

Named = Annotated[str, typer.Argument(metavar="NAME", help="a training set that was built")]
AtVersion = Annotated[int | None, typer.Option("--version", metavar="N", help="a version of its table (default: the newest)")]


@verb(training_sets, example=BUILD)
def build(  # noqa: PLR0913  # each is an option of the command
    call: Call,
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a training set of the catalog, or the name of the one to make")
    ] = None,
    spine: Annotated[
        str | None, typer.Option(metavar="PATH", help="a file or a Delta table with the service's keys and event_timestamp")
    ] = None,
    spine_sql: Annotated[str | None, typer.Option(metavar="SELECT", help="the spine as a query of sources, or of a database")] = None,
    connection: Annotated[str | None, typer.Option(metavar="NAME", help="the database that is asked for the spine")] = None,
    service: Annotated[str | None, typer.Option(metavar="SERVICE", help="the feature service to join to the spine")] = None,
    column: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=TYPE",
            default_factory=list,
            show_default=False,
            help="the type of a spine's column that is no text; how its times are written stands behind it, like at=timestamp:epoch=ms",
        ),
    ],
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="where the spine's times without a zone were written down, like Europe/Berlin")
    ] = None,
    mode: Annotated[
        Literal["as_known", "event_time", "as_served"] | None,
        typer.Option(help="what was known at the spine's times, or the newest corrections, or what was online (default: as_known)"),
    ] = None,
    statuses: Annotated[
        bool, typer.Option("--statuses", help="with a column for each join that says whether its values are PRESENT, EMPTY, EXPIRED ...")
    ] = False,
) -> int:
    """Join a spine with features as they were known at its times."""
    if spine is None and (column or timezone):
        raise Unknown("--column and --timezone tell of the columns in a file; name it: --spine labels.csv")
    if (spine_sql is None and connection is not None) or (spine_sql is not None and spine is not None):
        raise Unknown("a spine is either a file, --spine labels.csv, or a query, --spine-sql 'SELECT ...', of sources or of a --connection")
    if (spine or spine_sql) is not None and service is None:
        raise Unknown("--spine needs --service: which features shall be joined to it?")
    if spine is spine_sql is None and service is not None:
        raise Unknown("--service needs a spine, --spine labels.csv; a training set of the catalog has its own service")
    columns = {name: inputs.column(said) for name, said in pairs(column, example="amount=double", what="NAME=TYPE").items()}
    with output.progress() as say, call.project(say) as p:
        given = spine if spine_sql is None else p.spine_query(spine_sql, connection)
        built = p.training_set(
            name, spine=given, service=service, mode=mode, spine_columns=columns, spine_timezone=timezone, statuses=statuses
        )
    unchanged = " (unchanged, nothing to do)" if built.unchanged else ""
    where = "rejected; readers keep what was there before" if built.rejected else f"{counted(built.rows, 'row')} in {built.path}{unchanged}"
    lines = (*output.training_lines(built.manifest), f"page: {output.plain(built.page)}")
    call.answer(documents.training_set_build(built), f"[bold]{built.name}[/]: {where}", *lines)
    for sentence in output.failed_checks(built.manifest):
        output.warn(f"{built.name}: {sentence}")
    return REJECTED if built.rejected else DONE


@verb(training_sets, example="headwater training-set list")
def list_(call: Call) -> int:
    """Show the training sets that lie in the lake."""
    with call.project() as p:
        sets = p.training_sets()
    found = documents.training_set_list(sets)
    for each in sets:
        if not each.newest.manifest:
            output.warn(f"{each.name}: none of its manifests can be read; build it again: headwater training-set build {each.name}")
    if not found.training_sets:
        return call.answer(found, "no training set was built yet")
    columns = documents.ListedTrainingSet.__struct_fields__
    rows = [[getattr(each, column) for column in columns[:-1]] for each in found.training_sets]
    call.answer(found, output.table(*(column.replace("_", " ") for column in columns[:-1]), rows=rows))
    for one in found.training_sets:
        if one.rejected:
            output.warn(f"{one.name}: a newer build was rejected by {', '.join(one.rejected)}; readers keep version {one.version}")
    return DONE


@verb(training_sets, example="headwater training-set show churn --version 3")
def show(call: Call, *, name: Named, version: AtVersion = None) -> int:
    """Show what a training set rests on and what its rows hold, and which versions of it there are."""
    with call.project() as p:
        found = documents.training_set_show(*p.training_set_versions(name, version))
    columns = documents.TrainingSetVersion.__struct_fields__
    rows = [[getattr(each, column) for column in columns] for each in found.versions]
    title = f"[bold]{name}[/] version {found.version}: {counted(found.rows, 'row')} in {output.plain(found.path)}"
    return call.answer(found, title, *output.training_lines(found.manifest), output.table(*columns, rows=rows))


@verb(training_sets, example="headwater training-set append churn")
def append(call: Call, *, name: Named) -> int:
    """Join the rows that came to a training set's spine, and leave the earlier ones, if a whole build would give the same."""
    with output.progress() as say, call.project(say) as p:
        built = p.append_training_set(name)
    found = documents.training_set_append(built)
    came = "nothing came to its spine" if found.unchanged else f"joined {counted(found.joined, 'row')} from {found.since} on"
    return _grown(call, built, found, came)


@verb(training_sets, example="headwater training-set add churn --group visits --feature pages_7d")
def add(
    call: Call,
    *,
    name: Named,
    group: Annotated[str, typer.Option(metavar="GROUP", help="the group whose features are added")],
    feature: Annotated[
        list[str],
        typer.Option(metavar="FEATURE", default_factory=list, show_default=False, help="a feature or a column of it (none: all)"),
    ],
    prefix: Annotated[str | None, typer.Option(metavar="PREFIX", help="what its columns begin with (default: the group)")] = None,
) -> int:
    """Join one more group or feature to a training set's rows, and leave its other columns, if a whole build would give the same."""
    with output.progress() as say, call.project(say) as p:
        built = p.add_to_training_set(name, group, *feature, prefix=prefix)
    found = documents.training_set_add(built)
    return _grown(call, built, found, f"added {', '.join(found.columns)}")


def _grown(call: Call, built: "Built", found: documents.Document, said: str) -> int:
    """Say what was added to a training set, or by what it was rejected."""
    where = "rejected; readers keep what was there before" if built.rejected else f"{said}; {counted(built.rows, 'row')} in {built.path}"
    call.answer(found, f"[bold]{built.name}[/]: {output.plain(where)}")
    for sentence in output.failed_checks(built.manifest) if built.rejected else ():
        output.warn(f"{built.name}: {sentence}")
    return REJECTED if built.rejected else DONE


@verb(training_sets, example="headwater training-set diff churn --from 3 --to 5")
def diff(
    call: Call,
    *,
    name: Named,
    other: Annotated[str | None, typer.Argument(metavar="OTHER", help="another training set (default: versions of the same one)")] = None,
    start: Annotated[int | None, typer.Option("--from", metavar="N", help="the first version (default: the last one but one)")] = None,
    end: Annotated[int | None, typer.Option("--to", metavar="N", help="the second version (default: the newest)")] = None,
) -> int:
    """Show how two versions of a training set differ: rows, columns, missing values, and how far features moved."""
    with output.progress() as say, call.project(say) as p:
        found = documents.training_set_diff(p.diff_training_sets(name, other, start=start, end=end))
    return call.answer(found, *output.diff_lines(found))


@verb(training_sets, example="headwater training-set verify churn --version 3   # 0: equal, 1: it differs, or cannot be built again")
def verify(call: Call, *, name: Named, version: AtVersion = None) -> int:
    """Look whether a training set's rows are those that were written, and build it again from what it rested on; 1 if anything differs."""
    with output.progress() as say, call.project(say) as p:
        found = p.verify_training_set(name, version)
    call.answer(documents.training_set_verify(found), *output.verified_lines(found))
    return DONE if found.verdict == "equal" else FAILED


@verb(training_sets, example="headwater training-set export churn --to churn.parquet")
def export(
    call: Call,
    *,
    name: Named,
    to: Annotated[str, typer.Option("--to", metavar="PATH", help="the file to write; it is there whole or not at all")],
    kind: Annotated[
        Literal["parquet", "csv", "arrow"] | None,
        typer.Option("--format", help="of which format it is (default: by its name, else parquet)"),
    ] = None,
    version: AtVersion = None,
) -> int:
    """Write a training set as one file, its rows in the spine's order."""
    with call.project() as p:
        done = p.export_training_set(name, to, kind=kind, version=version)
    said = f"{name} version {done.version}: {counted(done.rows, 'row')}, {output.size(done.bytes)} of {done.format} in {done.path}"
    return call.answer(documents.training_set_export(done), output.plain(said))
