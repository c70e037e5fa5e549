"""The page about a group that Airflow shows beside its DAG."""

from collections.abc import Sequence

from dags.schedule import Schedule
from feature_definitions.intervals import DAY, spell
from feature_definitions.language import (
    Derived,
    Feature,
    FeatureGroup,
    ObservationGroup,
    SnapshotGroup,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.language.expect import Expectation


def page(group: FeatureGroup, schedule: Schedule, *, report: str) -> str:
    """A group in Markdown: whose it is, when it runs, what each column says and is expected to be, where its newest `report` lies."""
    keys = ", ".join(f"`{key}` {data_type}" for key, data_type in group.entity.keys.items())
    rows = "\n".join(f"| `{name}` | {_cell(meaning)} |" for name, meaning in _columns(group))
    return f"""# {group.name}

- **Owner**: {group.owner or "nobody is named"}
- **Entity**: {group.entity.name} ({keys})
- **{"Reads" if isinstance(group, TransformGroup) else "Source"}**: {", ".join(each.name for each in group.inputs)}
- **Schedule**: {_when(schedule)}
- **Newest report of the gate**: the tab Report shows it; it lies in `{report}`

| column | meaning |
|---|---|
{rows}

{_expectations(group)}

A run is of one {_covered(schedule)}. Its colour is what the ledger says of it:

- `materialize` and `publish` green: it is published
- `materialize` red, `publish` red: the gate rejected it: the log's last line says which row, where the report lies, what to do
- `materialize` skipped, `publish` red: it waits for an interval that was rejected, of this group or of one that it reads
- `materialize` green, `publish` red: it is published, and out of date
- `materialize` and `publish` skipped: there is nothing to do: the source begins later
- `restate` red: it is as above, and an earlier interval that late events changed is not published
- `warnings` red: it is published, and somebody should look: rows are held, or an expectation warned
{_approval(group)}
After a correction clear the red tasks ("only failed"): they ingest again and do what is to be done.

`headwater status {group.name}` says what is published, and why something is not.
"""


def _approval(group: FeatureGroup) -> str:
    """What a run looks like that waits for a person."""
    if group.warnings != "approve":
        return ""
    return "- `approve` awaits input: an expectation warned; a person publishes or refuses the run under Required Actions\n"


def page_of_training_set(defined: TrainingSet, *, table: str) -> str:
    """A training set in Markdown: of which rows and features it is, how they are joined, what is expected of it, where it lies."""
    joins = "\n".join(
        f"| `{join.name}` | {join.group.name} | {', '.join(f'`{name}`' for name in join.outputs)} |" for join in defined.service.joins
    )
    label, cut = defined.label, defined.cut
    young = "" if label is None else "left out until it is over" if label.immature == "leave out" else "refused"
    parts = "" if cut is None else f" into {', '.join(f'{name} {share:.0%}' for name, share in cut.shares.items())}"
    stated = [("the rows" if column is None else f"`{column}`", each) for column, each in defined.expected]
    return f"""# {defined.name}

- **Spine**: {defined.spine.name}, each row once
- **Service**: {defined.service.name} ({defined.service.version})
- **Joined**: `{defined.mode}`
- **Label**: {"none" if label is None else f"`{label.column}`, known after {label.horizon}; rows whose horizon is not over are {young}"}
- **Split**: {"none" if cut is None else f"by {cut.by}{parts}"}
- **Lies in**: `{table}`

| join | group | columns |
|---|---|---|
{joins}

{_stated(stated, default="each row of the spine once")}

- `complete` says which days the groups have published, and which group lacks one. It is skipped while each day lacks one. Where a
  later run waits, that one looks at this run's days, too.
- `training_set` builds: `headwater training-set {defined.name}`. It is red if something critical that is expected does not hold, or
  the definition is refused; readers keep what they had. It is skipped where a later run waits, which builds instead.
"""


def page_of_range() -> str:
    """What the DAG does that computes a range of days."""
    return """# A range of days

Press Trigger and fill in the form: which groups (none means all), the first and the last day, and what of it is computed.
`missing` is what was never computed, `stale` what is out of date, `due` both, `all` everything.

- `plan` prints what would be computed and what it costs. A dry run ends there.
- `materialize` ingests what is new, and computes, judges and publishes one chunk of days after the other, each in one Spark job.
  When it is cleared or was stopped, it goes on with what is left (with the mode `all` it begins again). Of a run that was
  cancelled (marked as failed), clear all tasks: those behind stay skipped else.
- `publish` tells training sets and the online store of every partition that was published.
- `report` is red if a day of the range is not published; its log ends with what is wrong, and what to do.
"""


def page_of_reconcile() -> str:
    """What the DAG does that compares the ledger with what should be there."""
    return """# What is due

- `start` computes what no run has started: days that an outage left out after a group's first published one, and days
  that late events or a repair changed, as far back as the group restates them. It is skipped if there is nothing.
- `report` is red while days are missing, out of date, rejected or waiting. Its log says how many of which group, and how to
  compute them. The newest day is left to its own run; the days before a group's first published one are yours to start.
"""


def _covered(schedule: Schedule) -> str:
    if schedule.is_static:
        return "state of a static source"
    return "data day, which its partition key names" if schedule.step == DAY else "interval, whose start its partition key names"


def _when(schedule: Schedule) -> str:
    ready = f"`{schedule.cron}` UTC"
    if schedule.is_static:
        return f"{ready}; the source is static, so each run looks whether it changed"
    return f"{ready}, when the source is ready, {spell(schedule.ready_after)} after an interval's end"


def _columns(group: FeatureGroup) -> list[tuple[str, str]]:
    match group:
        case TransformGroup():
            return [(name, f"{data_type}, from the last {group.lookback}") for name, data_type in group.schema.items()]
        case WindowedGroup():
            return [pair for feature in group.features for pair in _meanings(feature)]
        case ObservationGroup() | SnapshotGroup():
            known = {**{name: f"`{sql}`" for name, sql in group.source.derive.items()}, **group.source.columns}
            return [(name, f"{known[name]}, as observed") for name in group.columns]


def _meanings(feature: Feature | Derived) -> list[tuple[str, str]]:
    if isinstance(feature, Derived):
        return [(feature.name, f"`{feature.expression}`")]
    condition = f" where `{feature.where}`" if feature.where else ""
    of = f" of `{feature.of}`" if feature.of else " of events"
    return [
        (column, f"{feature.aggregation}{of} over {window}{condition}")
        for column, window in zip(feature.columns, feature.windows, strict=True)
    ]


def _expectations(group: FeatureGroup) -> str:
    """What is expected beside what follows from the definition: of each feature, then of the group."""
    features = group.features if isinstance(group, WindowedGroup) else ()
    stated = [(feature.name, each) for feature in features for each in feature.expect]
    stated += [("the group", each) for each in group.expect]
    return _stated(stated, default="keys that are unique and values that are finite")


def _stated(stated: Sequence[tuple[str, Expectation]], *, default: str) -> str:
    """What is expected, each with what it is about, beside what is expected by default."""
    if not stated:
        return f"Nothing is expected beside {default}."
    lines = [f"- {about}: `{each}`, {each.severity}" for about, each in stated]
    return "\n".join([f"What is expected, beside {default}:", "", *lines])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
