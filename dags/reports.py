"""What the tab Report of a DAG shows: of a group what the gate said last, and of each run in which something did not hold; of a training
set the page of each build. The tab of a run shows those of them that came while it was at work.

Airflow's API server answers it, to whoever may read the DAG in Airflow. It reads the pages where runs wrote them, in the lake, by names
that cannot lead elsewhere. A page may hold anything that the data say, so a browser runs none of it and asks nobody for anything.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Annotated, NamedTuple

from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from feature_definitions import layout, settings
from feature_definitions.errors import UserError
from feature_definitions.intervals import EPOCH, iso

SHOWN = 30
"""So many pages are offered beside the newest one."""
NEWEST = "newest.html"
_NAME = "([a-z][a-z0-9_]{0,62})"
_GROUP, _TRAINING_SET = (re.compile(re.escape(dag("")) + _NAME) for dag in (layout.group_dag, layout.training_set_dag))
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


class Pages(NamedTuple):
    """The pages about what a DAG makes: their folder in the lake, what those beside the newest are, what is said while there is none."""

    folder: str
    others: str
    none: str


def pages_of(dag_id: str) -> Pages | None:
    """What a DAG that Airflow knows is about; None where it is of no group and of no training set."""
    if DagModel.get_current(dag_id) is None:
        raise HTTPException(404, f"Airflow has no DAG {dag_id}")
    lake = settings.load(settings.project_folder(None)).lake
    if found := _GROUP.fullmatch(dag_id):
        folder = layout.report_file(lake, found[1], NEWEST).removesuffix(f"/{NEWEST}")
        none = f"The gate has judged nothing of {found[1]} yet; its report is here after the first run that computes something."
        return Pages(folder, "Runs in which something did not hold", none)
    if found := _TRAINING_SET.fullmatch(dag_id):
        none = f"{found[1]} was not built yet; the page of each build is here."
        return Pages(layout.training_set_builds(lake, found[1]), "Builds", none)
    return None


About = Annotated[Pages | None, Depends(pages_of)]
READERS = [Depends(requires_access_dag("GET"))]


@app.get("/reports/{dag_id}", dependencies=READERS)
def contents(dag_id: str, about: About) -> HTMLResponse:
    """The page of the tab: which pages there are of what the DAG is about, the newest one below."""
    kept = [] if about is None else _kept(about)
    return _shown(dag_id, about, kept, none="" if about is None else about.none, below="")


@app.get("/runs/{dag_id}/{run_id}", dependencies=READERS)
def contents_of_run(dag_id: str, run_id: str, about: About) -> HTMLResponse:
    """The page of a run's tab: what was computed while the run was at work, of which one at a time is in a DAG."""
    runs = DagRun.find(dag_id=dag_id, run_id=[run_id])
    if not runs:
        raise HTTPException(404, f"{dag_id} has no run {run_id}")
    first, last = runs[0].start_date, runs[0].end_date or datetime.now(UTC)
    pages = [] if about is None or first is None else [name for name in _kept(about) if name != NEWEST]
    mine = None if about is None else about._replace(others="Computed while this run was at work")
    none = "Nothing that was computed while this run was at work has a page of its own. The tab Report of the DAG shows the newest ones."
    return _shown(dag_id, mine, [name for name in pages if first <= _began(name) <= last], none=none, below="../../reports/")


@app.get("/reports/{dag_id}/{name}", dependencies=READERS)
def report(dag_id: str, name: str, about: About) -> HTMLResponse:
    """One report, as the run wrote it."""
    from lake import storage

    if about is None or not _PAGE.fullmatch(name):
        raise HTTPException(404, f"{dag_id} has no report {name}")
    try:
        return HTMLResponse(storage.read(f"{about.folder}/{name}"), headers=_HEADERS)
    except FileNotFoundError:
        return _said(f"{dag_id} has no report {name}: it is not kept any more.", status=404)


@app.exception_handler(UserError)
@app.exception_handler(OSError)
def unreadable(_: Request, error: Exception) -> HTMLResponse:
    """The page in place of a report where the API server does not find the project, or the lake does not answer."""
    return _said(f"The reports cannot be read: {error}", status=502)


def _began(name: str) -> datetime:
    """When that began whose page has a name: its id says it, in microseconds."""
    return EPOCH + timedelta(microseconds=int(name[1:18]))


def _kept(about: Pages) -> list[str]:
    """The names of the pages, the newest first."""
    from lake import storage

    return sorted((file.name for file in storage.files(about.folder, suffix=".html") if _PAGE.fullmatch(file.name)), reverse=True)


def _shown(dag_id: str, about: Pages | None, kept: Sequence[str], *, none: str, below: str) -> HTMLResponse:
    """A tab: links to pages, which lie `below` it; or why there are none."""
    if about is None:
        return _said(f"{dag_id} is the DAG of no group and no training set, so it has no report.")
    return _page(_links(f"{below}{dag_id}", about, kept)) if kept else _said(none)


def _links(folder: str, about: Pages, kept: Sequence[str]) -> str:
    """Links to pages, which show in a frame below; the newest one is there at once."""
    runs = [name for name in kept if name != NEWEST]
    newest = _link(folder, NEWEST, "Newest") if NEWEST in kept else ""
    links = " ".join(_link(folder, name, iso(_began(name).replace(microsecond=0))) for name in runs[:SHOWN])
    others = f"{about.others}: {links}" if runs else "Every check held in every run."
    frame = f'<iframe name="report" title="report" src="{escape(folder)}/{NEWEST if newest else runs[0]}"></iframe>'
    return f"<nav>{newest} {others}</nav>{frame}"


def _link(folder: str, name: str, said: str) -> str:
    return f'<a target="report" href="{escape(folder)}/{name}">{said}</a>'


def _said(sentence: str, *, status: int = 200) -> HTMLResponse:
    return _page(f"<p>{escape(sentence)}</p>", status=status)


def _page(body: str, *, status: int = 200) -> HTMLResponse:
    head = f'<head><meta charset="utf-8"><title>Report</title><style>{_STYLE}</style></head>'
    return HTMLResponse(f'<!doctype html><html lang="en">{head}<body>{body}</body></html>', status_code=status, headers=_HEADERS)
