"""The verb that answers feature requests."""

from typing import Annotated

import typer

from headwater import documents, output
from headwater.commands.online import ONLINE
from headwater.commands.verb import DONE, Call, verb

app = typer.Typer()


@verb(app, example="headwater serve --port 8000", panel=ONLINE)
def serve(
    call: Call,
    *,
    port: Annotated[int, typer.Option(metavar="N", help="the port, 0 for a free one", show_default=True)] = 8000,
    host: Annotated[str, typer.Option(metavar="HOST", help="the address to listen at (default: this machine only)")] = "127.0.0.1",
) -> int:
    """Answer feature requests over HTTP."""
    with call.project() as p:
        services = list(p.catalog.services)

        def ready(taken: int) -> None:
            url = f"http://{host}:{taken}"
            if call.as_json:
                output.print_json(documents.ServeDocument(url=url, services=services))
            output.err.print(f"serving {', '.join(services)} at {url} (ctrl-c stops)")

        p.serve(host=host, port=port, ready=ready)
    return DONE
