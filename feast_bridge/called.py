"""Features computed on demand, called from Feast: by the very function that training and serving call."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from feast_bridge import projects
from feature_definitions import on_demand
from feature_definitions.language import FeatureService, OnDemandFeature
from feature_definitions.on_demand import Values
from feature_definitions.reading import default
from feature_definitions.sql.column_types import types_of_outputs
from spark_jobs.training.computed import array_of, values_of


def computed(inputs: Mapping[str, Sequence[Any]], *, project: str, service: str, feature: str, view: str) -> dict[str, list[Any]]:
    """A feature's values, as Feast's on-demand views give them; `inputs` are lists of Python's values by column.

    They come under the short and the full name, of which Feast takes the one that was asked for.
    """
    owner, which = _defined(projects.named(project).catalog.services, service, feature)
    asked = _asked(which, owner)
    columns = [on_demand.of_python([_filled(_given(each, kind), stands) for each in inputs[name]], kind) for name, kind, stands in asked]
    values = on_demand.compute(which, columns, count=len(next(iter(inputs.values()), ())))
    found = on_demand.to_python(values, which.type)
    return {which.name: found, f"{view}__{which.name}": found}


def of_arrow(columns: Mapping[str, pa.ChunkedArray], *, project: str, service: str, feature: str) -> pa.Array:
    """A feature's values as an Arrow column, from columns of Arrow."""
    found, which = _defined(projects.named(project).catalog.services, service, feature)
    given = [_with_default(values_of(columns[name].combine_chunks(), kind), kind, stands) for name, kind, stands in _asked(which, found)]
    return array_of(on_demand.compute(which, given, count=len(next(iter(columns.values())))), which.type)


def _defined(services: Mapping[str, FeatureService], service: str, feature: str) -> tuple[FeatureService, OnDemandFeature]:
    found = services[service]
    return found, next(each for each in found.on_demand if each.name == feature)


def _asked(feature: OnDemandFeature, service: FeatureService) -> list[tuple[str, str, Any]]:
    """The inputs of a feature with their types, and what stands for null in each."""
    types = {output: kind for join in service.joins for output, kind in types_of_outputs(join).items()}
    inputs = feature.typed_inputs(types)
    return [(name, kind, default(service.defaults[name], kind) if name in service.defaults else None) for name, kind in inputs]


def _given(value: Any, kind: str) -> Any:
    """A value of Feast's as one of its type: of dates it has the midnights."""
    if kind == "date" and isinstance(value, datetime):
        return value.date()
    return list(value) if isinstance(value, tuple) else value


def _filled(value: Any, stands: Any) -> Any:
    return stands if value is None else value


def _with_default(given: Values, kind: str, stands: Any) -> Values:
    if stands is None or not given.null.any():
        return given
    return on_demand.of_python([_filled(each, stands) for each in on_demand.to_python(given, kind)], kind)
