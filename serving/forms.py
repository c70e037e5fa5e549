"""Results in other forms than rows: as columns, and as Feast has them."""

from collections.abc import Mapping, Sequence
from typing import Any

from feature_definitions.reading import EXPIRED, NOT_FOUND
from serving.request import JoinPlan, RequestError, ServicePlan

_NO_TIME = "1970-01-01T00:00:00Z"
_SAID: Mapping[str, str] = {EXPIRED: "OUTSIDE_MAX_AGE", NOT_FOUND: "NOT_FOUND"}


def columns(results: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, list[Any]]]:
    """Results column by column: a list for each name, in the order asked."""
    first = results[0]
    return {part: {name: [result[part][name] for result in results] for name in first[part]} for part in first}


def as_feast(plan: ServicePlan, results: Sequence[Mapping[str, Mapping[str, Any]]], *, full_names: bool) -> dict[str, Any]:
    """Results as Feast's feature server gives them: a list of values, statuses and event timestamps for each name."""
    found = {key: [result["entity"][key] for result in results] for key in plan.asked}
    names, answers = list(found), [_answer(values, ["PRESENT"] * len(values), [_NO_TIME] * len(values)) for values in found.values()]
    for join in plan.joins:
        status = [result["status"][join.name] for result in results]
        times = [result["event_timestamp"][join.name] or _NO_TIME for result in results]
        for name, output in zip(names_of(join, full=full_names), join.outputs, strict=True):
            values = [result["values"][output] for result in results]
            names.append(name)
            answers.append(_answer(values, [_status(value, said) for value, said in zip(values, status, strict=True)], times))
    for feature in plan.on_demand:
        values = [result["values"][feature.feature.name] for result in results]
        names.append(feature.feature.name)
        answers.append(_answer(values, [_status(value, "") for value in values], [_NO_TIME] * len(values)))
    _refuse_twice(names)
    return {"metadata": {"feature_names": names}, "results": answers}


def names_of(join: JoinPlan, *, full: bool) -> Sequence[str]:
    """What Feast calls the columns of a join."""
    return join.outputs if full else join.columns


def _answer(values: list[Any], statuses: list[str], times: list[str]) -> dict[str, list[Any]]:
    return {"values": values, "statuses": statuses, "event_timestamps": times}


def _status(value: object, said: str) -> str:
    return "PRESENT" if value is not None else _SAID.get(said, "NULL_VALUE")


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"two features are called {', '.join(twice)}; ask with full_feature_names", field="full_feature_names")
