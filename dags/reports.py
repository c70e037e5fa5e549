"""What the tab Report of a DAG shows: what the gate said last of its group, and of each run in which something did not hold.

Airflow's API server answers it, to whoever may read the DAG in Airflow. It reads the pages where runs wrote them, in the lake, by names
that cannot lead elsewhere. A page may hold anything that the data say, so a browser runs none of it and asks nobody for anything.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Annotated

from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from feature_definitions import layout, settings
from feature_definitions.errors import UserError
from feature_definitions.intervals import EPOCH, iso

SHOWN = 30
"""So many of the newest runs in which something did not hold are offered."""
NEWEST = "newest.html"
_GROUP = re.compile(re.escape(layout.group_dag("")) + r"([a-z][a-z0-9_]{0,62})")
_PAGE = re.compile(r"newest\.html|p\d{17}-[0-9a-f]{6}\.html")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_STYLE = """
:root { color-scheme: light dark }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; font: 14px/1.5 system-ui, sans-serif }
nav, p { margin: 0; padding: 8px 16px } a { margin: 0 6px } iframe { flex: 1; border: 0 }
"""

app = FastAPI(title="Headwater's reports", openapi_url=None)


def group_of(dag_id: str) -> str | None:
    """The group of a DAG that Airflow knows; None where it is of no group."""
    if DagModel.get_current(dag_id) is None:
        raise HTTPException(404, f"Airflow has no DAG {dag_id}")
    found = _GROUP.fullmatch(dag_id)
    return found[1] if found else None


GroupOf = Annotated[str | None, Depends(group_of)]
READERS = [Depends(requires_access_dag("GET"))]


@app.get("/reports/{dag_id}", dependencies=READERS)
def contents(dag_id: str, group: GroupOf) -> HTMLResponse:
    """The page of the tab: which reports there are of the DAG's group, the newest one below."""
    if group is None:
        return _said(f"{dag_id} is the DAG of no feature group; the reports of the gate are on the DAGs of groups.")
    try:
        kept = _kept(group)
    except (UserError, OSError) as error:
        return _said(f"The reports of {group} cannot be read: {error}", status=502)
    if not kept:
        return _said(f"The gate has judged nothing of {group} yet; its report is here after the first run that computes something.")
    return _page(_links(dag_id, kept))


@app.get("/reports/{dag_id}/{name}", dependencies=READERS)
def report(dag_id: str, name: str, group: GroupOf) -> HTMLResponse:
    """One report, as the run wrote it."""
    from lake import storage

    if group is None or not _PAGE.fullmatch(name):
        raise HTTPException(404, f"{dag_id} has no report {name}")
    try:
        return HTMLResponse(storage.read(layout.report_file(_lake(), group, name)), headers=_HEADERS)
    except FileNotFoundError:
        return _said(f"{group} has no report {name}: it is not kept any more.", status=404)
    except (UserError, OSError) as error:
        return _said(f"The report cannot be read: {error}", status=502)


def judged_at(name: str) -> datetime:
    """When the run began whose report has a name: its id says it, in microseconds."""
    return (EPOCH + timedelta(microseconds=int(name[1:18]))).replace(microsecond=0)


def _lake() -> str:
    return settings.load(settings.project_folder(None)).lake


def _kept(group: str) -> list[str]:
    """The names of a group's reports, the newest first."""
    from lake import storage

    folder = layout.report_file(_lake(), group, NEWEST).removesuffix(f"/{NEWEST}")
    return sorted((file.name for file in storage.files(folder, suffix=".html") if _PAGE.fullmatch(file.name)), reverse=True)


def _links(dag_id: str, kept: Sequence[str]) -> str:
    """Links to reports, which show in a frame below; the newest run's is there at once."""
    runs = [(name, iso(judged_at(name))) for name in kept if name != NEWEST]
    links = " ".join(_link(dag_id, name, said) for name, said in runs[:SHOWN])
    others = f"Runs in which something did not hold: {links}" if runs else "Every check held in every run."
    first = f"{escape(dag_id)}/{NEWEST if NEWEST in kept else kept[0]}"
    return f'<nav>{_link(dag_id, NEWEST, "Newest run")} {others}</nav><iframe name="report" title="report" src="{first}"></iframe>'


def _link(dag_id: str, name: str, said: str) -> str:
    return f'<a target="report" href="{escape(dag_id)}/{name}">{said}</a>'


def _said(sentence: str, *, status: int = 200) -> HTMLResponse:
    return _page(f"<p>{escape(sentence)}</p>", status=status)


def _page(body: str, *, status: int = 200) -> HTMLResponse:
    head = f'<head><meta charset="utf-8"><title>Report</title><style>{_STYLE}</style></head>'
    return HTMLResponse(f'<!doctype html><html lang="en">{head}<body>{body}</body></html>', status_code=status, headers=_HEADERS)
