"""The verb that builds training sets."""

from typing import Annotated, Literal

import typer

from feature_definitions.counted import counted
from feature_definitions.errors import Unknown
from headwater import documents, inputs, output
from headwater.commands.verb import DONE, REJECTED, Call, pairs, verb

app = typer.Typer()


@verb(app, example="headwater training-set --spine labels.parquet --service churn_v1 --mode as_known", panel="Training")
def training_set(  # noqa: PLR0913  # each is an option of the command
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
    columns = {name: inputs.column(said) for name, said in pairs(column, example="amount=double", what="NAME=TYPE").items()}
    with output.progress() as say, call.project(say) as p:
        given = spine if spine_sql is None else p.spine_query(spine_sql, connection)
        built = p.training_set(
            name, spine=given, service=service, mode=mode, spine_columns=columns, spine_timezone=timezone, statuses=statuses
        )
    unchanged = " (unchanged, nothing to do)" if built.unchanged else ""
    where = "rejected; readers keep what was there before" if built.rejected else f"{counted(built.rows, 'row')} in {built.path}{unchanged}"
    call.answer(documents.training_set(built), f"[bold]{built.name}[/]: {where}", *output.training_lines(built.manifest))
    for sentence in output.failed_checks(built.manifest):
        output.warn(f"{built.name}: {sentence}")
    return REJECTED if built.rejected else DONE
