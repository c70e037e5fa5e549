"""The verb that answers feature requests."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from headwater import documents, output
from headwater.commands.online import ONLINE
from headwater.commands.verb import DONE, Call, verb
from headwater.online_verbs import Serving

app = typer.Typer()


@verb(app, example="headwater serve --port 8000", panel=ONLINE)
def serve(  # noqa: PLR0913  # one for each flag
    call: Call,
    *,
    port: Annotated[int, typer.Option(metavar="N", help="the port, 0 for a free one", show_default=True)] = 8000,
    host: Annotated[str, typer.Option(metavar="HOST", help="the address to listen at (default: this machine only)")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="processes that answer", show_default=True)] = 1,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="the file of API keys; demanded unless HOST is this machine")] = None,
    tls: Annotated[tuple[str, str] | None, typer.Option(metavar="CERT KEY", help="files of a certificate and its key, for HTTPS")] = None,
    trust: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="how late a sync may be noticed", show_default=True)] = 0.1,
    grpc: Annotated[int | None, typer.Option("--grpc-port", metavar="N", help="the port of gRPC, 0 for a free one (default: none)")] = None,
    models: Annotated[Path | None, typer.Option(metavar="DIR", help="a folder of models (default: the project's)")] = None,
    near: Annotated[int, typer.Option(min=1, metavar="N", help="entities of each service kept near", show_default=True)] = 20_000,
    stale: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="how long what is near is answered without store")] = 0.0,
) -> int:
    """Answer feature requests over HTTP, and over gRPC if that is wished; what has a mistake is left out, the rest is answered."""
    with replace(call, mistakes="leave out").project(partial(output.err.print, markup=False)) as p:
        services = list(p.catalog.services)
        calls: list[str] = []

        def ready(taken: int) -> None:
            url = f"{'https' if tls else 'http'}://{host}:{taken}"
            if call.as_json:
                output.print_json(documents.ServeDocument(url=url, grpc=calls[0] if calls else None, services=services))
            where = f"{url}, gRPC at {calls[0]}" if calls else url
            output.err.print(f"serving {', '.join(services)} at {where} (ctrl-c stops)")

        p.serve(
            host=host, port=port, ready=ready, serving=Serving(workers, keys, tls, trust, stale, grpc, models, near),
            grpc_ready=lambda taken: calls.append(f"{host}:{taken}"),
        )  # fmt: skip
    return DONE
