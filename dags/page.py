"""The page about a group that Airflow shows beside its DAG."""

from dags.schedule import Schedule
from feature_definitions.intervals import spell
from feature_definitions.language import Derived, Feature, FeatureGroup, ObservationGroup, SnapshotGroup, TransformGroup, WindowedGroup


def page(group: FeatureGroup, schedule: Schedule) -> str:
    """A group in Markdown: whose it is, what it is about, when it runs, and what each column says."""
    keys = ", ".join(f"`{key}` {data_type}" for key, data_type in group.entity.keys.items())
    rows = "\n".join(f"| `{name}` | {_cell(meaning)} |" for name, meaning in _columns(group))
    return f"""# {group.name}

- **Owner**: {group.owner or "nobody is named"}
- **Entity**: {group.entity.name} ({keys})
- **{"Reads" if isinstance(group, TransformGroup) else "Source"}**: {", ".join(each.name for each in group.inputs)}
- **Schedule**: {_when(schedule)}

| column | meaning |
|---|---|
{rows}

`headwater status {group.name}` says what is published, and why something is not.
"""


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


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
