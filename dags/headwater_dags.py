"""The DAGs of a project: one per feature group, those of training sets and of the online store, and one that computes a range of days.

Airflow parses this file (point its DAGs folder here, and HEADWATER_PROJECT at the project). Nothing is imported that computes. A group
whose file has a mistake has no DAG until that is corrected; `catalog_mistakes` says which mistakes there are. A task that runs parses
its own DAG only.

The runs of a group's DAG have partition keys: the run that starts at the end of 5 January is that of 2013-01-05, and so are its asset
event and the run of a backfill of that day. `Schedule.interval` decides what a run covers; `airflow dags test` names a logical date.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial, reduce
from operator import or_
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    CronPartitionTimetable,
    CronTriggerTimetable,
    FixedKeyMapper,
    Param,
    PartitionedAssetTimetable,
    PartitionedAtRuntime,
    get_parsing_context,
)

from dags.consumers import CompleteOperator, FollowOperator
from dags.operators import (
    CommandOperator,
    IngestOperator,
    MaterializeOperator,
    PublishOperator,
    RestateOperator,
    WaitOperator,
    WarningsOperator,
)
from dags.page import page, page_of_range, page_of_reconcile, page_of_training_set
from dags.range_backfill import MODES, ComputeOperator, MarkOperator, PlanOperator, ReportOperator
from dags.reconcile import MarkPublishedOperator, ReportDueOperator, StartOperator
from dags.schedule import schedule_of
from feature_definitions import layout, settings
from feature_definitions.intervals import EPOCH
from feature_definitions.language import FeatureGroup, TrainingSet
from feature_definitions.loader import Catalog, load_sound

RETRIES = {
    "retries": 5,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
}
"""For what passes by itself: a source or a group that another run works on, a store that is away."""
FIRST = {"priority_weight": 10, "weight_rule": "absolute"}
"""Each day's own run goes before ranges of days and what follows, which have the weight 1, where a pool bounds how many compute."""
WAITING_RUNS = 15
"""So many runs of a group that asks for approval may wait for a person while others go on, and of one that reads groups for these."""
ALL_DONE, NONE_SKIPPED = "all_done", "none_skipped"
HOUR = timedelta(hours=1)


def group_asset(group: str, *, project: str) -> Asset:
    """What a group publishes: its partitions are named as its runs are."""
    return Asset(name=layout.group_asset(group), uri=f"headwater://{project}/{layout.group_asset(group)}")


def group_dag(group: FeatureGroup, *, project: settings.Settings, domain: str) -> DAG:
    """A group's DAG: wait for the source, ingest and compute what is due, say what became of it, publish.

    Only one of its runs works at a time, because they would wait for each other's lease; one that waits, for a person or for a
    group that it reads, keeps no other from starting. Its last task alone gives a run its colour.
    """
    schedule = schedule_of(group)
    asset = group_asset(group.name, project=project.name)
    mine: dict[str, Any] = {"project": project.root, "schedule": schedule, "asset": asset}
    alone = {**mine, "max_active_tis_per_dag": 1}
    since = project.catch_up_from
    with DAG(
        dag_id=layout.group_dag(group.name),
        schedule=CronPartitionTimetable(schedule.cron, timezone="UTC", run_offset=-1, key_format=schedule.key_format),
        start_date=EPOCH if since is None else schedule.first_run(since),
        catchup=since is not None,
        max_active_runs=schedule.most_runs + (WAITING_RUNS if group.warnings == "approve" or schedule.reads else 0),
        default_args={"owner": group.owner or domain, **RETRIES, **FIRST},
        description=f"Publish {group.name}, features of {group.entity.name}",
        doc_md=page(group, schedule, report=layout.report_file(project.lake, group.name, "newest.html")),
        tags=sorted({domain, group.owner, *group.tags} - {""}),
    ) as dag:
        (
            WaitOperator(task_id=layout.WAIT_TASK, **mine)
            # Rows in quarantine and files that cannot be read do not stop the day: what is left of it is judged as a whole.
            >> IngestOperator(task_id=layout.INGEST_TASK, pool=project.pool, late="its own day" if since is None else "until now", **alone)
            >> MaterializeOperator(task_id=layout.MATERIALIZE_TASK, **alone)
            >> [
                RestateOperator(task_id=layout.RESTATE_TASK, trigger_rule=ALL_DONE, **alone),
                WarningsOperator(task_id=layout.WARNINGS_TASK, retries=0, **mine),
                *_approval(group, mine),
            ]
            >> PublishOperator(task_id=layout.PUBLISH_TASK, trigger_rule=ALL_DONE, **mine)
        )
    return dag


def _approval(group: FeatureGroup, mine: Mapping[str, Any]) -> list[Any]:
    """The task that asks a person, of a group that asks for approval."""
    if group.warnings != "approve":
        return []
    from dags.buttons import ApproveOperator

    return [ApproveOperator(task_id=layout.APPROVE_TASK, **mine)]


def _alone(dag_id: str, *, project: settings.Settings, schedule: Any, about: str, text: str | None = None, **more: Any) -> DAG:
    """A DAG of the project as a whole, of which one run works at a time."""
    return DAG(
        dag_id=dag_id,
        schedule=schedule,
        start_date=EPOCH,
        catchup=False,
        max_active_runs=1,
        default_args={"owner": project.name, **RETRIES, **more.pop("default_args", {})},
        description=about,
        doc_md=text,
        tags=[project.name],
        **more,
    )


def _assets(groups: Iterable[str], project: settings.Settings) -> dict[str, Asset]:
    """What groups publish, by their names."""
    return {name: group_asset(name, project=project.name) for name in groups}


def sync_dag(project: settings.Settings) -> DAG:
    """The hourly DAG that syncs all published groups in one Spark application; what did not change costs little."""
    schedule = CronTriggerTimetable("0 * * * *", timezone="UTC")
    about = "Bring the newest row of every entity of every published group to the online store, each hour"
    with _alone(layout.SYNC_DAG, project=project, schedule=schedule, about=about, text=_said(about, layout.SYNC_TASK)) as dag:
        CommandOperator(task_id=layout.SYNC_TASK, arguments=[layout.SYNC_TASK], **_heavy(project))
    return dag


def sync_published_dag(groups: Sequence[FeatureGroup], *, project: settings.Settings) -> DAG:
    """The DAG that syncs as soon as a group published something; what many partitions bring at once is synced once."""
    schedule = _any_publish(_assets((group.name for group in groups), project))
    about = "Bring what a group has just published to the online store; the hourly DAG does it in any case"
    with _alone(layout.SYNC_PUBLISHED_DAG, project=project, schedule=schedule, about=about, text=_said(about, layout.SYNC_TASK)) as dag:
        FollowOperator(task_id=layout.SYNC_TASK, arguments=[layout.SYNC_TASK], **_heavy(project))
    return dag


def training_set_dag(defined: TrainingSet, *, project: settings.Settings) -> DAG:
    """The DAG that builds a training set when a day of all its groups is published; groups that run many times an hour do not start it."""
    asked = {join.group.name: schedule_of(join.group) for join in defined.service.joins}
    followed = [schedule for _, schedule in sorted(asked.items()) if schedule.step >= HOUR]
    by_day = CronTriggerTimetable("0 3 * * *", timezone="UTC")
    words, (check, build) = ("training-set", defined.name), layout.TRAINING_SET_TASKS
    about = f"Build the training set {defined.name} when one day of all of its groups is published ({', '.join(sorted(asked))})"
    assets = _assets((each.group for each in followed), project)
    with _alone(
        layout.training_set_dag(defined.name),
        project=project,
        schedule=_any_publish(assets) if followed else by_day,
        about=about,
        text=page_of_training_set(defined, table=layout.training_set_table(project.lake, defined.name)),
    ) as dag:
        (
            CompleteOperator(task_id=check, project=project.root, schedules=followed, assets=list(assets.values()))
            >> FollowOperator(task_id=build, arguments=words, **_heavy(project))
        )
    return dag


def _said(about: str, *words: str) -> str:
    return f"{about}: `headwater {' '.join(words)}`.\n"


def _heavy(project: settings.Settings) -> dict[str, Any]:
    """What a task that computes is given: where, and in which pool."""
    return {"project": project.root, "pool": project.pool}


def _any_publish(assets: Mapping[str, Asset]) -> PartitionedAssetTimetable:
    """Whenever one of some groups has published something; what was published until a run begins is one run's."""
    either: Any = reduce(or_, assets.values())
    return PartitionedAssetTimetable(assets=either, default_partition_mapper=FixedKeyMapper("newest"))


def range_dag(groups: Sequence[FeatureGroup], *, project: settings.Settings) -> DAG:
    """The DAG that a person starts by a form: which groups, from which day to which, and what of it."""
    schedules = [schedule for group in groups if not (schedule := schedule_of(group)).is_static]
    names = [schedule.group for schedule in schedules]
    mine: dict[str, Any] = {"project": project.root, "schedules": schedules}
    with _alone(
        layout.RANGE_DAG,
        project=project,
        schedule=PartitionedAtRuntime(),
        about="Compute a range of days of some groups, in one Spark job per chunk",
        text=page_of_range(),
        default_args={"weight_rule": "absolute"},
        params={
            "groups": Param(
                [], type=["null", "array"], items={"type": "string", "enum": names}, examples=names, description="none: all groups"
            ),
            "from": Param(None, type="string", format="date", description="the first day (UTC)"),
            "to": Param(None, type="string", format="date", description="the last day (UTC); it is computed too"),
            "mode": Param("missing", enum=list(MODES), description="what of it: due is missing and stale, all is whatever its state"),
            "chunk_days": Param(90, type="integer", minimum=1, description="so many days are one Spark job"),
            "dry_run": Param(False, type="boolean", description="only print the plan and what it costs"),
        },
    ) as dag:
        plan, materialize, publish, report = layout.RANGE_TASKS
        assets = _assets(names, project)
        (
            PlanOperator(task_id=plan, **mine)
            >> ComputeOperator(task_id=materialize, pool=project.pool, **mine)
            >> MarkOperator(task_id=publish, assets=assets, trigger_rule=NONE_SKIPPED, **mine)
            >> ReportOperator(task_id=report, trigger_rule=NONE_SKIPPED, retries=0, **mine)
        )
    return dag


def reconcile_dag(groups: Sequence[FeatureGroup], *, project: settings.Settings) -> DAG:
    """The DAG that starts each hour what is due and what no run has started, and is red while something is missing."""
    mine: dict[str, Any] = {"project": project.root, "schedules": [schedule_of(group) for group in groups]}
    start, report = layout.RECONCILE_TASKS
    with _alone(
        layout.RECONCILE_DAG,
        project=project,
        schedule=CronTriggerTimetable("30 * * * *", timezone="UTC"),
        about="Start what the ledger says is due and no run has started; red while something is missing or out of date",
        text=page_of_reconcile(),
    ) as dag:
        assets = _assets((group.name for group in groups), project)
        StartOperator(task_id=start, assets=assets, pool=project.pool, **mine) >> ReportDueOperator(
            task_id=report, trigger_rule=ALL_DONE, retries=0, **mine
        )
    return dag


def mark_dag(groups: Sequence[FeatureGroup], *, project: settings.Settings) -> DAG:
    """The DAG that tells Airflow once of what was published before it knew of the project; `make up` runs it while consumers are paused."""
    with _alone(
        layout.MARK_DAG,
        project=project,
        schedule=PartitionedAtRuntime(),
        about="Tell Airflow of the partitions that were published before it knew of the project",
    ) as dag:
        for group in groups:
            asset = group_asset(group.name, project=project.name)
            MarkPublishedOperator(
                task_id=group.name, project=project.root, schedules=[schedule_of(group)], assets={group.name: asset}, pool=project.pool
            )
    return dag


def project_dags(only: str | None) -> tuple[DAG, ...]:
    """The DAGs of the project that HEADWATER_PROJECT names, or that `only` one, for a task of it."""
    project = settings.load(settings.project_folder(None))
    catalog = load_sound(project.catalog)
    groups = list(catalog.tables.values())
    made: dict[str, Callable[[], DAG]] = {layout.SYNC_DAG: partial(sync_dag, project)}
    for group in groups:
        made[layout.group_dag(group.name)] = partial(group_dag, group, project=project, domain=_domain(catalog, group.name, project))
    for defined in catalog.training_sets.values():
        made[layout.training_set_dag(defined.name)] = partial(training_set_dag, defined, project=project)
    if groups:
        made[layout.SYNC_PUBLISHED_DAG] = partial(sync_published_dag, groups, project=project)
        made[layout.RECONCILE_DAG] = partial(reconcile_dag, groups, project=project)
        made[layout.MARK_DAG] = partial(mark_dag, groups, project=project)
        made[layout.RANGE_DAG] = partial(range_dag, groups, project=project)
    return tuple(made[name]() for name in sorted(made) if only in (None, name))


def _domain(catalog: Catalog, group: str, project: settings.Settings) -> str:
    """The folder of the catalog that a group is written in, else the project."""
    folders = catalog.origin_of("group", group).file.resolve().relative_to(project.catalog).parts[:-1]
    return folders[0] if folders else project.name


globals().update({dag.dag_id: dag for dag in project_dags(get_parsing_context().dag_id)})
