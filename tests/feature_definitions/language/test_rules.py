"""What is said of a name that is not known, or cannot be one."""

import pytest

from feature_definitions.language import DefinitionError, Feature
from feature_definitions.language.rules import check_known, closest


def test_a_suggestion_is_only_made_for_a_near_name() -> None:
    assert closest("AMOUNT", ["amount", "other"]) == " Did you mean 'amount'?"
    assert closest("xyz", ["amount", "other"]) == ""


def test_a_name_that_is_not_there_is_told_what_is_and_the_closest() -> None:
    with pytest.raises(DefinitionError, match=r"there is no column 'amnt'\. payments has: amount, paid_at\. Did you mean 'amount'\?"):
        check_known("group g", "amnt", {"amount": 0, "paid_at": 0}, what="column", owner="payments")


@pytest.mark.parametrize(("said", "meant"), [("SUM", "sum"), ("avg", "mean"), ("std", "stddev"), ("nunique", "count_distinct")])
def test_an_aggregation_by_the_name_that_others_give_it_is_told_ours(said: str, meant: str) -> None:
    with pytest.raises(DefinitionError, match=f"Did you mean '{meant}'"):
        Feature("f", said, "amount", windows=("1d",))
