"""Where everything lies: the only place that spells a table path, a file name, a Redis key or a column of our own."""

import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple
from urllib.parse import quote

from feature_definitions.intervals import spell

S3 = "s3a://"
"""How a path on S3 begins."""

DATE, TIME, INGEST, LIVE, CONTENT = "_hw_date", "_hw_time", "_hw_ingest", "_hw_live", "_hw_content"
"""Of a source's rows: UTC date and instant of the event, the ingest that brought the row, whether it holds, a hash of its content."""
ASIDE, ASIDE_DATE = "_hw_aside", date.max
"""Of a source's rows: whether it holds but is not read; the partition of all rows outside the dates that are read, whatever theirs."""
FILE, LINE = "_hw_file", "_hw_line"
"""Of a source's rows: where they came from."""
REASON, COLUMN, VALUE, RAW = "_hw_reason", "_hw_column", "_hw_value", "_hw_raw"
"""Of rows put aside: why, the column and the value at fault (null where it is the whole row), and the text as it was."""


def source_table(lake: str, source: str) -> str:
    """The Delta table of a source's ingested rows, partitioned by `date`."""
    return f"{lake}/sources/{source}"


def known_ids(lake: str, source: str) -> str:
    """The folder of the hashes of the ids that the files of a source's table hold: a cache."""
    return f"{lake}/ids/{source}"


def pins_table(lake: str, source: str) -> str:
    """The Delta table that says in which state the tables of a source that is read in place were seen."""
    return f"{lake}/looks/{source}"


def ingest_logs(lake: str, source: str) -> tuple[str, str]:
    """The tables in whose logs the commits of a source's ingests are: of its rows, or of what was seen in place."""
    return source_table(lake, source), pins_table(lake, source)


def landing_folder(lake: str, source: str) -> str:
    """Where frames handed to `project.write` are kept as Parquet files, named by their content."""
    return f"{lake}/landing/{source}"


def feature_table(lake: str, group: str, generation: int) -> str:
    """The Delta table of a group's published rows, partitioned by `date`."""
    return f"{lake}/features/{group}/g{generation}"


def history_table(lake: str, group: str, generation: int) -> str:
    """The Delta table of rows that later publishes replaced, and of tombstones."""
    return f"{lake}/history/{group}/g{generation}"


def tile_table(lake: str, source: str, entity: Iterable[str], cadence: timedelta, grain: timedelta) -> str:
    """The Delta table of a source's partial aggregates per entity (its key columns), cadence and grain, partitioned by `date`."""
    return f"{lake}/tiles/{source}/{'.'.join(entity)}/{spell(cadence)}_{spell(grain)}"


def quarantines(lake: str) -> str:
    """The folder of all quarantines."""
    return f"{lake}/quarantine"


def quarantine_table(lake: str, name: str) -> str:
    """The Delta table of rows that a group's or a source's gate refused."""
    return f"{quarantines(lake)}/{name}"


def training_sets(lake: str) -> str:
    """The folder of all training sets."""
    return f"{lake}/training_sets"


def training_set_table(lake: str, name: str) -> str:
    """The Delta table of a training set."""
    return f"{training_sets(lake)}/{name}"


MANIFEST, BUILDS = ".manifest.json", ".builds"
"""How the name of a training set's manifest ends, and that of the folder of those of all its builds."""


def training_set_manifest(lake: str, name: str) -> str:
    """The JSON file that says what a training set was built from."""
    return f"{training_sets(lake)}/{name}{MANIFEST}"


def training_set_builds(lake: str, name: str) -> str:
    """The folder of the manifests of all builds of a training set."""
    return f"{training_sets(lake)}/{name}{BUILDS}"


def training_set_build(lake: str, name: str, build_id: str) -> str:
    """The manifest of one build of a training set, by the id of its commit."""
    return f"{training_set_builds(lake, name)}/{build_id}.json"


def training_set_page(lake: str, name: str, build_id: str) -> str:
    """The page that shows one build of a training set to a person."""
    return f"{training_set_builds(lake, name)}/{build_id}.html"


def rejected_training_set(lake: str, name: str) -> str:
    """The JSON file that says what was wrong with the newest build of a training set, if that was rejected."""
    return f"{training_sets(lake)}/{name}.rejected.json"


ROW_NUMBER, ROW_DATE, ROW_PART = TRAINING_COLUMNS = ("hw_row", "hw_date", "hw_split")
"""Columns that a training set has of its own: each row's place in the spine, the date by which it lies in partitions, and its part."""


def status_column(join: str) -> str:
    """The column of a training set that says the status of a join's values."""
    return f"{join}{_STATUS}"


def event_timestamp_column(join: str) -> str:
    """The column of an answer in Arrow that says the event timestamp of a join's row."""
    return f"{join}__hw_event_timestamp"


_STATUS = "__hw_status"


def is_of_training_sets(column: str) -> bool:
    """Whether a name is kept for the columns that training sets have of their own, in capitals or not."""
    return column.lower() in TRAINING_COLUMNS or column.lower().endswith(_STATUS)


def records_table(lake: str, record: str) -> str:
    """The Delta copy of one kind of record: ledger, publishes, commits, revisions, files, promotions, releases, epochs or erasures."""
    return f"{lake}/records/{record}"


def identity_file(lake: str) -> str:
    """The file that says which lake it is."""
    return f"{lake}/records/identity"


def report_file(lake: str, group: str, name: str) -> str:
    """A file about a group's gate, by its own name: `newest.html`, or of a run in which something did not hold `<publish_id>.html`."""
    return f"{lake}/reports/{group}/{name}"


def staging(lake: str) -> str:
    """The folder of all runs' staging folders."""
    return f"{lake}/staging"


def staging_folder(lake: str, publish_id: str) -> str:
    """Computed rows of one run that nobody reads before they are judged and published."""
    return f"{staging(lake)}/{publish_id}"


def waiting(lake: str) -> str:
    """The folder of all runs that were judged and wait for a person."""
    return f"{lake}/waiting"


def waiting_folder(lake: str, group: str, run_id: str) -> str:
    """The judged rows of one run, which nobody reads before a person lets them pass."""
    return f"{waiting(lake)}/{group}/{run_id}"


def shared_tables(lake: str) -> tuple[str, ...]:
    """The folders of the tables that belong to no group alone and are ours: pins, records, quarantines and training sets."""
    return tuple(table(lake, "_").removesuffix("/_") for table in (pins_table, records_table, quarantine_table, training_set_table))


RUN = "hw-run="
"""How the folder of one run begins below a table's: Spark takes it for a partition of a column that no definition can name."""


def run_folder(table: str, commit_id: str) -> str:
    """Where one run writes a table's new files; they are part of the table once its commit names them."""
    return f"{table}/{RUN}{commit_id}"


def entity_text(values: Iterable[object]) -> str:
    """Key values as one text that no other values give: escaped (braces too) and joined by `|`; true and false are small, dates ISO."""
    texts = (str(v).lower() if isinstance(v, bool) else str(v) for v in values)
    return "|".join(quote(text, safe=" :-_.@/+,", errors="surrogatepass") for text in texts)


class KeySpace(NamedTuple):
    """Whose keys they are in the online store: a project's, brought there from one lake, which is named by its identity."""

    project: str
    lake: str


class OnlineKey(NamedTuple):
    """What a key of a project stands for: the lake (None: as keys were before they named one), the group, and of rows the generation."""

    lake: str | None
    group: str
    generation: int | None


def row_key(space: KeySpace, group: str, generation: int, entity: str) -> str:
    """The Redis key of one entity's packed row; `entity` is an `entity_text`. A cluster chooses its place by the entity alone."""
    return f"hw:{space.project}:{space.lake}:{group}@{generation}:{{{entity}}}"


def epoch_key(space: KeySpace, group: str) -> str:
    """The Redis key of a group's epoch record, written last by each sync."""
    return f"hw:{space.project}:{space.lake}:{group}:epoch"


def looked_key(space: KeySpace, group: str) -> str:
    """The Redis key of what the last sync of a group saw, by which the next one decides what to compare."""
    return f"hw:{space.project}:{space.lake}:{group}:looked"


def owner_key(project: str) -> str:
    """The Redis key of what says from which lake a project's rows come."""
    return f"hw:{project}:lake"


def online_keys(project: str) -> str:
    """The pattern of a project's keys in Redis, of whatever lake."""
    return f"hw:{project}:*"


_ROW_OR_RECORD = r"(?s:([a-z2-7]{8}):([^:@]+)(?:@(\d+):\{.*\}|:\w+)|([^:@]+)(?:@(\d+):.*|:epoch))"


def online_key(key: str, project: str) -> OnlineKey | None:
    """What a key of a project stands for; None for a key that is none of its rows or records."""
    found = re.fullmatch(_ROW_OR_RECORD, key.removeprefix(f"hw:{project}:"))
    if found is None:
        return None
    lake, group, generation, old_group, old_generation = found.groups()
    number = generation or old_generation
    return OnlineKey(lake, group or old_group, None if number is None else int(number))


def embedded_store(state: str) -> str:
    """The folder in which the embedded online store keeps its data, below the project's state folder."""
    return f"{state}/store"


def hot_keys(state: str) -> str:
    """The file of entities that are near in a server, below the project's state folder."""
    return f"{state}/near.json"


GROUP_TASKS = ("wait", "ingest", "materialize", "publish")
"""The ids of a group's tasks, in order; metrics and dashboards go by them, so they are never renamed."""

WAIT_TASK, INGEST_TASK, MATERIALIZE_TASK, PUBLISH_TASK = GROUP_TASKS
RESTATE_TASK, WARNINGS_TASK = "restate", "warnings"
"""Tasks beside them that tell what is wrong though the run's own interval is published."""
APPROVE_TASK = "approve"
"""The task, of groups that ask for approval, that asks a person what becomes of a run that waits."""

SYNC_TASK = "sync"
SYNC_DAG, SYNC_PUBLISHED_DAG = "sync__online", "sync__published"
"""The DAGs that bring what was published to the online store: each hour, and when something was published."""

RANGE_DAG, RANGE_TASKS = "backfill__range", ("plan", "materialize", "publish", "report")
"""The DAG that computes a range of days which a person asks for, and the ids of its tasks."""

RECONCILE_DAG, RECONCILE_TASKS = "reconcile", ("start", "report")
"""The DAG that starts what the ledger says is due and no run has started, and the ids of its tasks."""

MARK_DAG = "mark__published"
"""The DAG that tells Airflow once of what was published before; it has a task for each group, of its name."""

TRAINING_SET_TASKS = ("complete", "training_set")
"""The ids of the tasks that say whether a training set is to be built, and build it."""


def group_asset(group: str) -> str:
    """The name of the asset that a group publishes; its partitions are the intervals of the group's runs."""
    return f"features.{group}"


def training_set_dag(name: str) -> str:
    """The id of the DAG that builds a training set; no other DAG's starts with `ts__`."""
    return f"ts__{name}"


def group_dag(group: str) -> str:
    """The id of the DAG that publishes a group; no other DAG's starts with `fg__`."""
    return f"fg__{group}"
