"""Judges a profile, one row per interval, with Great Expectations: in memory, and nothing leaves the process."""

import logging
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the import itself uses what Python and others deprecate
    import great_expectations as gx
    from great_expectations.core import ExpectationSuite
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig
    from great_expectations.datasource.fluent.interfaces import Batch

from expectations.suite import EACH, GRAVITY, Check, Judgement, Verdict, gx_expectations

_PLAIN: dict[str, object] = {"result_format": "BOOLEAN_ONLY"}
_NAMED: dict[str, object] = {"result_format": "COMPLETE", "unexpected_index_column_names": ["interval"]}


class NotJudged(RuntimeError):
    """A check could not be evaluated, so nothing is known about the intervals: never to be taken for a pass."""


def judge(profile: pd.DataFrame, checks: Sequence[Check]) -> Judgement:
    """The verdict of each interval of a profile: its columns are `interval` (a text), `rows` and, by its id, what each check measured.

    One validation judges all intervals; its account is Great Expectations' own result, and that of the failed checks
    with the intervals named. Raises NotJudged if a count is missing or a check could not be evaluated.
    """
    _refuse_gaps(profile, checks)
    failures: dict[str, set[str]] = {str(interval): set() for interval in profile["interval"]}
    if not len(profile) or not checks:
        return Judgement({interval: Verdict() for interval in failures}, {})
    values = _with_excess(profile, checks)
    first, results = _validate(values, checks, gx_expectations(checks), _PLAIN)
    failed = [check for check, result in results if not result.success]
    named: list[tuple[Check, Any]] = []
    if failed:
        # Only judging each interval names those that failed; it costs several times as much, so only failed checks do.
        second, named = _validate(values, failed, [{**each, "type": EACH} for each in gx_expectations(failed)], _NAMED)
    for check, result in named:
        for interval in _intervals(check, result):
            failures[interval].add(check.id)
    account = {"all": first.to_json_dict()} | ({"failed": second.to_json_dict()} if failed else {})
    return Judgement({interval: _verdict(checks, ids) for interval, ids in failures.items()}, account)


def _verdict(checks: Sequence[Check], failed: set[str]) -> Verdict:
    critical, warning, info = (
        tuple(check.id for check in checks if check.id in failed and check.severity == severity) for severity in GRAVITY
    )
    return Verdict(failed=critical, warned=warning, noted=info)


def _refuse_gaps(profile: pd.DataFrame, checks: Sequence[Check]) -> None:
    """Great Expectations passes over nulls, so a count that was not measured would look like a pass."""
    for name in ("interval", "rows", *(check.id for check in checks)):
        if name not in profile:
            raise NotJudged(f"the profile has no column {name!r}; it has {', '.join(map(str, profile.columns))}")
    for name in ("interval", "rows", *(check.id for check in checks if check.of_rows)):
        if profile[name].isna().any():
            raise NotJudged(
                f"the profile's column {name!r} has no value for some interval; measure every interval, with 0 where it is empty"
            )


def _with_excess(profile: pd.DataFrame, checks: Sequence[Check]) -> pd.DataFrame:
    """What is judged; for each check of a share, by how many whole rows the bad ones exceed what it allows."""
    rows = [int(number) for number in profile["rows"]]
    excess: dict[str, list[int]] = {}
    for check in checks:
        if check.at_least_share is not None:
            allowed = 1 - Fraction(str(check.at_least_share))
            excess[check.judged] = [int(bad) - allowed * of // 1 for bad, of in zip(profile[check.id], rows, strict=True)]
    return pd.DataFrame({name: profile[name] for name in ("interval", *(check.id for check in checks))} | excess)


def _intervals(check: Check, result: Any) -> list[str]:
    intervals = [str(row["interval"]) for row in result.result["unexpected_index_list"]]
    if not intervals:
        raise NotJudged(f"the check {check.id} failed, but Great Expectations names no interval")
    return intervals


def _validate(
    profile: pd.DataFrame, checks: Sequence[Check], expectations: list[dict[str, object]], result_format: dict[str, object]
) -> tuple[Any, list[tuple[Check, Any]]]:
    """Great Expectations' result, and that of each check."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite = ExpectationSuite(name="profile", expectations=expectations)
        whole = _batch(profile).validate(suite, result_format=result_format)
    by_id = {check.id: check for check in checks}
    judged = [(by_id[result.expectation_config.meta["id"]], result) for result in whole.results]
    if len(judged) != len(checks):
        raise NotJudged(f"Great Expectations evaluated {len(judged)} of {len(checks)} checks")
    for check, result in judged:
        _refuse_exception(check, result.exception_info)
    return whole, judged


def _batch(profile: pd.DataFrame) -> Batch:
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(), analytics_enabled=False, progress_bars=ProgressBarsConfig(globally=False)
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("profile").add_dataframe_asset("profile")
    return asset.add_batch_definition_whole_dataframe("profile").get_batch({"dataframe": profile})


def _refuse_exception(check: Check, info: dict[str, Any]) -> None:
    """Great Expectations reports what it could not evaluate as one record, or as one per metric."""
    records = [info] if "raised_exception" in info else list(info.values())
    raised = next((record for record in records if record.get("raised_exception")), None)
    if raised is not None:
        raise NotJudged(f"the check {check.id} could not be evaluated: {raised.get('exception_message')}")
