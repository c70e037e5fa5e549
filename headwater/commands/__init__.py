"""The `headwater` command: words in, one call of the project each, tables or JSON out; exit codes 0, 1, 2 and 3 as `--help` says."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from feature_definitions.version import VERSION
from headwater import output
from headwater.commands import authoring, feast, ingest, offline, online, registry, serve, training
from headwater.commands.verb import AS_JSON, EXIT_CODES, MISTAKE, ON_MISTAKES, AsJson, Folder

app = typer.Typer(
    help="Features that are correct in time, everywhere.",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it so
    if wanted:
        output.out.print(f"headwater {VERSION}")
        raise typer.Exit


@app.callback()
def _any_verb(
    context: typer.Context,
    *,
    project: Folder = None,
    sound: Annotated[
        bool, typer.Option("--sound-only", help="leave out what is wrong in the catalog and what rests on it, instead of refusing all")
    ] = False,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="print the version and end")] = False,  # noqa: ARG001
) -> None:
    context.obj = project
    context.meta[ON_MISTAKES] = "leave out" if sound else "refuse"


@registry.registry.callback()
@training.training_sets.callback()
@feast.feast.callback()
def _any_of_a_group(context: typer.Context, *, project: Folder = None, as_json: AsJson = False) -> None:
    context.obj = project or context.obj
    context.meta[AS_JSON] = as_json


for part in (authoring, ingest, offline, training, online, serve, registry, feast):
    app.add_typer(part.app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(sys.argv[1:] if arguments is None else list(arguments), prog_name="headwater", standalone_mode=False)
    except TyperException as error:
        output.mistake(_one_sentence(error))
        code = MISTAKE
    sys.stdout.flush()
    raise SystemExit(code)


def _one_sentence(error: TyperException) -> str:
    """What is wrong with the words of a command, without what pydantic calls it, and with a way on."""
    said = " ".join(error.format_message().split()).replace("Value error, ", "")
    return said if said != "Missing command." else "Missing command; headwater --help lists them"
