"""The DAGs that Airflow finds, in processes of their own; and one of them, run for a day."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from examples import starter
from feature_definitions import layout
from tests.dags.conftest import SHOP
from tests.dags.conftest import project as make

if TYPE_CHECKING:
    from conftest import Airflow

PARSE = """
import json, os
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag()
serialized = {name: json.dumps(DagSerialization.to_dict(dag), sort_keys=True) for name, dag in sorted(bag.dags.items())}
"""
DESCRIBE = """
answer = {"serialized": serialized}
answer |= {"errors": bag.import_errors, "warnings": {k: list(v) for k, v in bag.captured_warnings.items()}, "dags": {
    name: {
        "tasks": [task.task_id for task in dag.topological_sort()],
        "after": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "cron": getattr(dag.timetable, "expression", None),
        "timetable": type(dag.timetable).__name__,
        "catchup": dag.catchup,
        "start": dag.start_date.isoformat(),
        "runs": dag.max_active_runs,
        "alone": [task.task_id for task in dag.tasks if task.max_active_tis_per_dag == 1],
        "pools": {task.task_id: task.pool for task in dag.tasks},
        "weights": [task.priority_weight for task in dag.tasks],
        "rules": {task.task_id: task.trigger_rule for task in dag.tasks},
        "outlets": {task.task_id: sorted(asset.name for asset in task.outlets) for task in dag.tasks},
        "retries": [task.retries for task in dag.tasks],
        "owner": dag.owner,
        "tags": sorted(dag.tags),
        "page": dag.doc_md,
    }
    for name, dag in bag.dags.items()
}}
"""
ERRORS = """
def errors(project):
    os.environ["HEADWATER_PROJECT"] = project
    return DagBag().import_errors
"""


@pytest.fixture(scope="module")
def found(airflow: Airflow, shop: Path) -> dict[str, Any]:
    """What Airflow finds when it parses the folder for the shop."""
    answer: dict[str, Any] = airflow.python(PARSE + DESCRIBE, project=shop, PYTHONHASHSEED="1")
    return answer


def test_the_folder_parses_without_errors_or_warnings(found: dict[str, Any]) -> None:
    assert found["errors"] == {}
    assert found["warnings"] == {}


PROJECT = ("ts__churn", "sync__online", "sync__published", "backfill__range", "reconcile", "mark__published")
GROUPS = ("fg__burst", "fg__home", "fg__level", "fg__pace", "fg__paid", "fg__spend")


def test_there_is_one_dag_a_group_and_a_training_set_and_those_of_the_project(found: dict[str, Any]) -> None:
    assert set(found["dags"]) == {
        *GROUPS,
        "ts__churn",
        "sync__online",
        "sync__published",
        "backfill__range",
        "reconcile",
        "mark__published",
    }


def test_a_groups_tasks_end_in_publish(found: dict[str, Any]) -> None:
    for name in GROUPS:
        assert [task for task in found["dags"][name]["tasks"] if task in layout.GROUP_TASKS] == ["wait", "ingest", "materialize", "publish"]
        told = {"restate": ["materialize"], "warnings": ["materialize"], "publish": ["restate", "warnings"]}
        if name == "fg__paid":
            told |= {"approve": ["materialize"], "publish": ["approve", "restate", "warnings"]}
        assert found["dags"][name]["after"] == {"wait": [], "ingest": ["wait"], "materialize": ["ingest"], **told}


def test_only_publish_gives_a_run_its_colour_whatever_went_on_before(found: dict[str, Any]) -> None:
    for name in GROUPS:
        after = found["dags"][name]["after"]
        assert set(after) - {task for before in after.values() for task in before} == {"publish"}
        assert found["dags"][name]["rules"]["publish"] == "all_done"


def test_only_publish_tells_others_of_a_partition(found: dict[str, Any]) -> None:
    told = {(name, task): assets for name, dag in found["dags"].items() for task, assets in dag["outlets"].items() if assets}
    of_range = ("backfill__range", "publish")
    every = sorted(f"features.{name.removeprefix('fg__')}" for name in GROUPS)
    assert told.pop(("reconcile", "start")) == every
    assert sorted(name for (dag, _), names in told.items() if dag == "mark__published" for name in names) == every
    told = {place: names for place, names in told.items() if place[0] != "mark__published"}
    assert told.pop(of_range) == [name for name in every if name != "features.home"]
    assert told == {(name, "publish"): [f"features.{name.removeprefix('fg__')}"] for name in GROUPS}


def test_a_training_set_and_a_sync_are_triggered_by_the_partitions_that_they_rest_on(found: dict[str, Any]) -> None:
    training, sync = (json.loads(found["serialized"][name])["dag"]["timetable"] for name in ("ts__churn", "sync__published"))
    assert {"features.spend", "features.home"} <= set(re.findall(r"features\.\w+", json.dumps(training)))
    assert "features.level" not in json.dumps(training)
    either = {json.dumps(each["asset_condition"]).count("asset_any") for each in (training["__var"], sync["__var"])}
    assert either == {1}  # of all of them Airflow would keep what lacks one pending for ever
    assert "newest" in json.dumps(training)
    assert {f"features.{name.removeprefix('fg__')}" for name in GROUPS} <= set(re.findall(r"features\.\w+", json.dumps(sync)))


def test_a_task_parses_its_own_dag_only(airflow: Airflow, shop: Path) -> None:
    program = """
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
with _airflow_parsing_context_manager(dag_id="fg__spend", task_id="wait"):
    import dags.headwater_dags as found
answer = sorted(name for name in vars(found) if "__" in name.strip("_"))
"""
    assert airflow.python(program, project=shop) == ["fg__spend"]


def test_each_group_runs_at_its_cadence(found: dict[str, Any]) -> None:
    assert {name: dag["cron"] for name, dag in found["dags"].items() if dag["cron"]} == {
        "fg__burst": "*/5 * * * *",
        "fg__home": "0 0 * * *",
        "fg__level": "0 0 * * *",
        "fg__pace": "0 * * * *",
        "fg__paid": "0 */6 * * *",
        "fg__spend": "0 0 * * *",
        "sync__online": "0 * * * *",
        "reconcile": "30 * * * *",
    }


def test_nothing_is_run_for_the_time_before_a_dag_was_there(found: dict[str, Any]) -> None:
    assert not any(dag["catchup"] for dag in found["dags"].values())


def test_only_one_run_of_a_group_works_at_a_time(found: dict[str, Any]) -> None:
    assert found["dags"]["fg__burst"]["runs"] == 25
    assert found["dags"]["fg__burst"]["alone"] == ["ingest", "materialize", "restate"]
    assert found["dags"]["sync__online"]["runs"] == 1


def test_runs_that_wait_for_a_person_or_for_another_group_keep_no_others_from_starting(found: dict[str, Any]) -> None:
    assert (found["dags"]["fg__spend"]["runs"], found["dags"]["fg__paid"]["runs"], found["dags"]["fg__level"]["runs"]) == (2, 17, 17)


def test_tasks_are_tried_again(found: dict[str, Any]) -> None:
    assert {n for name in (*GROUPS, "sync__online") for n in found["dags"][name]["retries"]} == {0, 5}
    assert found["dags"]["fg__spend"]["retries"].count(0) == 1


def test_no_dag_has_a_deadline_of_airflows_with_which_its_runs_could_not_be_cleared(found: dict[str, Any]) -> None:
    dags = {name: json.loads(text)["dag"] for name, text in found["serialized"].items()}
    assert [name for name, dag in dags.items() if dag.get("deadline")] == []


def test_a_days_own_run_goes_before_a_range_of_days(found: dict[str, Any]) -> None:
    assert {weight for name in GROUPS for weight in found["dags"][name]["weights"]} == {10}
    assert set(found["dags"]["backfill__range"]["weights"]) == {1}


@pytest.fixture(scope="module")
def told(airflow: Airflow, shop: Path) -> dict[str, Any]:
    """The DAGs where the project's variables say how they run."""
    variables = {"HEADWATER_POOL": "spark", "HEADWATER_CATCH_UP_FROM": "2026-01-05"}
    dags: dict[str, Any] = airflow.python(PARSE + DESCRIBE, project=shop, **variables)["dags"]
    return dags


def test_each_day_since_a_date_has_a_run_of_its_own_where_that_is_said_and_what_is_of_no_day_has_none(told: dict[str, Any]) -> None:
    begins = {name: dag["start"] for name, dag in told.items() if dag["catchup"]}
    assert begins.keys() == set(GROUPS)
    assert (begins["fg__spend"], begins["fg__pace"]) == ("2026-01-06T00:00:00+00:00", "2026-01-05T01:00:00+00:00")


def test_what_computes_runs_in_the_pool_of_the_project_and_what_looks_does_not(told: dict[str, Any], found: dict[str, Any]) -> None:
    assert {pool for dag in found["dags"].values() for pool in dag["pools"].values()} == {"default_pool"}
    computing = {(name, task) for name, dag in told.items() for task, pool in dag["pools"].items() if pool == "spark"}
    of_project = {
        ("backfill__range", "materialize"), ("reconcile", "start"), ("sync__online", "sync"), ("sync__published", "sync"),
        ("ts__churn", "training_set"),
    }  # fmt: skip
    marking = {("mark__published", name.removeprefix("fg__")) for name in GROUPS}
    assert computing == of_project | marking | {(name, "ingest") for name in GROUPS}


def test_a_dag_says_whose_it_is_and_what_it_is_about(found: dict[str, Any]) -> None:
    spend, pace = found["dags"]["fg__spend"], found["dags"]["fg__pace"]
    assert (spend["owner"], spend["tags"]) == ("payments_team", ["daily", "gold", "payments_team", "retail"])
    assert (pace["owner"], pace["tags"]) == ("retail", ["retail"])
    assert spend["page"].startswith("# spend\n")


def test_parsing_loads_no_engine(airflow: Airflow, shop: Path) -> None:
    program = "import sys, dags.headwater_dags\nanswer = sorted({name.partition('.')[0] for name in sys.modules})"
    loaded = set(airflow.python(program, project=shop))
    assert {"dags", "feature_definitions", "airflow"} <= loaded
    assert not loaded & {"pyspark", "feast", "great_expectations", "pandas", "numpy", "pyarrow", "sqlglot", "headwater", "spark_jobs"}


def test_another_process_finds_the_same_dags(airflow: Airflow, shop: Path, found: dict[str, Any]) -> None:
    assert len(found["serialized"]) == 12
    assert airflow.python(PARSE + "answer = serialized", project=shop, PYTHONHASHSEED="2") == found["serialized"]


def test_a_broken_file_is_an_import_error_of_its_own_and_all_other_dags_stay(airflow: Airflow, shop: Path, tmp_path: Path) -> None:
    project = shutil.copytree(shop, tmp_path / "shop")
    broken = project / "catalog" / "retail" / "broken.py"
    broken.write_text("from feature_definitions import Entity\n\ncard = Entity('card', keys={'number': 'float'})\n", encoding="utf-8")
    program = PARSE + ERRORS + f"answer = [sorted(bag.dags), errors({str(project)!r}), errors({str(tmp_path)!r})]"
    dags, of_catalog, of_folder = airflow.python(program, project=project)
    assert set(dags) == {*GROUPS, *PROJECT}
    assert [Path(file).name for file in of_catalog] == ["catalog_mistakes.py"]
    assert f"{broken}:3: " in of_catalog[next(iter(of_catalog))]
    assert "'number'" in of_catalog[next(iter(of_catalog))]
    assert [f"{tmp_path} is no Headwater project" in error for error in of_folder.values()] == [True]


def test_a_days_run_publishes_that_day(airflow: Airflow, tmp_path: Path) -> None:
    project = starter.make(tmp_path / "mine")
    day = f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}"
    assert airflow.command("db", "migrate", project=project).returncode == 0
    done = airflow.command("dags", "test", layout.group_dag("customer_spend"), day, project=project)
    assert done.returncode == 0, done.stdout
    assert f"customer_spend {day} is published: 8 rows" in done.stdout
    intervals = status(project, "customer_spend")
    published = [i for i in intervals if i["publish_id"] is not None]
    assert [(i["interval_start"], i["status"], i["rows"]) for i in published] == [(f"{day}T00:00:00Z", "OK", 8)]
    assert len(intervals) > 30


def status(project: Path, group: str) -> list[dict[str, Any]]:
    command = [str(Path(sys.executable).with_name("headwater")), "status", group, "--json", "--project", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    intervals: list[dict[str, Any]] = json.loads(done.stdout)["intervals"]
    return intervals


CALLS = """
import sys, dags.headwater_dags as made
calls = []
sys.setprofile(lambda _, event, __: calls.append(1) if event == "call" else None)
made.project_dags(None)
sys.setprofile(None)
answer = len(calls)
"""


def test_parsing_a_hundred_groups_costs_a_hundred_times_one_and_no_more(airflow: Airflow, tmp_path: Path) -> None:
    """Calls, not seconds: a group costs what it costs, however many there are."""
    base, group = SHOP.partition("\nspend = ")[0], SHOP.partition("\npace = ")[2].partition("\n")[0]

    def calls(groups: int) -> int:
        definitions = "".join(f"\npace_{n} = {group.replace('pace', f'pace_{n}')}" for n in range(groups))
        found: int = airflow.python(CALLS, project=make(tmp_path / str(groups), base + definitions))
        return found

    few, many = calls(10), calls(100)
    assert many < 12 * few
    assert many < 100 * 25_000
