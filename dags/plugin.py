"""What Airflow's pages show of us beside our DAGs: a tab Report on each DAG, about its group or training set, and on each run.

Airflow finds it by the entry point of our package, in all of its processes: so nothing is imported here that answers requests.
"""

from typing import Any, ClassVar

from airflow.sdk.plugins_manager import AirflowPlugin

PREFIX = "/headwater"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request by the application of the reports, which only Airflow's API server loads."""
    from dags.reports import app

    await app(scope, receive, send)


class HeadwaterPlugin(AirflowPlugin):  # type: ignore[misc]  # mypy does not follow airflow
    """The tab, and what answers it."""

    name = "headwater"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [{"app": answer, "url_prefix": PREFIX, "name": "Headwater's reports"}]
    external_views: ClassVar[list[dict[str, Any]]] = [
        {
            "name": "Report",
            "href": f"{PREFIX.removeprefix('/')}/reports/{{DAG_ID}}",  # below the address of Airflow, wherever that is
            "destination": "dag",
            "url_route": "report",
        },
        {
            "name": "Report",
            "href": f"{PREFIX.removeprefix('/')}/runs/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "report-of-run",
        },
    ]
