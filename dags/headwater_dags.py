"""The DAGs of a project: one per feature group that ends in publish, and one that brings what was published online.

Airflow parses this file (point its DAGs folder here, and HEADWATER_PROJECT at the project). Nothing is imported that computes: a catalog
that cannot be loaded becomes an import error that names file and line.

Group DAGs have data intervals (CronDataIntervalTimetable) rather than partition keys (CronPartitionTimetable), because `airflow dags test`
cannot name a partition; both give a day of the UI's backfill the run of that very day. `Schedule.interval` decides what a run covers, and
is all that changes with the timetable.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, CronTriggerTimetable

from dags.operators import CommandOperator, ConfirmPublished, IngestOperator, MaterializeOperator, WaitOperator
from dags.page import page
from dags.schedule import schedule_of
from feature_definitions import layout, settings
from feature_definitions.intervals import EPOCH
from feature_definitions.language import FeatureGroup
from feature_definitions.loader import Catalog, load

RETRIES = {
    "retries": 5,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
}
"""For what passes by itself: a source or a group that another run works on, a store that is away."""


def group_dag(group: FeatureGroup, *, project: Path, domain: str) -> DAG:
    """A group's DAG: wait for the source, ingest it, materialize what is due, confirm that it is published.

    Only one of its runs works at a time, because they would wait for each other's lease.
    """
    schedule = schedule_of(group)
    wait, ingest, materialize, publish = layout.GROUP_TASKS
    alone: dict[str, Any] = {"project": project, "max_active_tis_per_dag": 1}
    with DAG(
        dag_id=layout.group_dag(group.name),
        schedule=CronDataIntervalTimetable(schedule.cron, timezone="UTC"),
        start_date=EPOCH,
        catchup=False,
        max_active_runs=schedule.most_runs,
        default_args={"owner": group.owner or domain, **RETRIES},
        description=f"Publish {group.name}, features of {group.entity.name}",
        doc_md=page(group, schedule),
        tags=sorted({domain, group.owner, *group.tags} - {""}),
    ) as dag:
        (
            WaitOperator(task_id=wait, schedule=schedule)
            # Rows in quarantine and files that cannot be read do not stop the day: what is left of it is judged as a whole.
            >> IngestOperator(task_id=ingest, group=group.name, **alone)
            >> MaterializeOperator(task_id=materialize, schedule=schedule, reads=[read.name for read in group.input_groups], **alone)
            >> ConfirmPublished(task_id=publish, project=project, schedule=schedule)
        )
    return dag


def sync_dag(*, project: Path, name: str) -> DAG:
    """The hourly DAG that syncs all published groups in one Spark application; what did not change costs little."""
    with DAG(
        dag_id=layout.SYNC_DAG,
        schedule=CronTriggerTimetable("0 * * * *", timezone="UTC"),
        start_date=EPOCH,
        catchup=False,
        max_active_runs=1,
        default_args={"owner": name, **RETRIES},
        description="Bring the newest published values to the online store",
        doc_md="Runs `headwater sync`: the newest row of every entity of every published group goes to the online store.\n",
        tags=[name],
    ) as dag:
        CommandOperator(task_id=layout.SYNC_TASK, project=project, arguments=("sync",))
    return dag


def project_dags() -> tuple[DAG, ...]:
    """Every DAG of the project that HEADWATER_PROJECT names, in the order of their ids."""
    project = settings.load(settings.project_folder(None))
    catalog = load(project.catalog)
    groups = [
        group_dag(group, project=project.root, domain=_domain(catalog, name, project)) for name, group in sorted(catalog.tables.items())
    ]
    return *groups, sync_dag(project=project.root, name=project.name)


def _domain(catalog: Catalog, group: str, project: settings.Settings) -> str:
    """The folder of the catalog that a group is written in, else the project."""
    folders = catalog.origin_of("group", group).file.resolve().relative_to(project.catalog).parts[:-1]
    return folders[0] if folders else project.name


globals().update({dag.dag_id: dag for dag in project_dags()})
