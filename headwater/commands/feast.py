"""The verbs about Feast, which run in a process of their own: importing feast takes seconds."""

from pathlib import Path
from typing import Annotated

import typer

from feature_definitions import settings
from feature_definitions.counted import counted
from headwater import beside, documents, output
from headwater.commands.verb import Call, epilog, verb

app = typer.Typer()
APPLY = "headwater feast apply --repo feast   # then: feast -c feast feature-views list"
feast = typer.Typer(help="Use definitions and data from Feast.", epilog=epilog(APPLY))
app.add_typer(feast, name="feast", rich_help_panel="Elsewhere")


@verb(feast, example=APPLY)
def apply(
    call: Call,
    *,
    repo: Annotated[
        str | None, typer.Option("--repo", metavar="DIR", help="the folder of Feast's repository, made if need be (default: PROJECT/feast)")
    ] = None,
) -> int:
    """Tell Feast's registry of the definitions: entities, views, services, features on demand; Feast then reads our stores."""
    root = settings.load(settings.project_folder(call.folder)).root
    said = beside.feast("apply", str(root), str((root / "feast") if repo is None else Path(repo).resolve()))
    done = documents.FeastApplyDocument(**said)
    for sentence in done.not_said:
        output.warn(sentence)
    views, services = counted(done.feature_views, "feature view"), counted(done.feature_services, "feature service")
    more = "" if not done.on_demand_feature_views else f", {counted(done.on_demand_feature_views, 'on-demand view')}"
    removed = [f"removed {output.plain(each)}" for each in done.removed]
    return call.answer(done, f"told Feast of {views}, {services}{more} in [bold]{output.plain(done.repo)}[/]", *removed)
