"""Numbers of things as a sentence says them."""

import pytest

from feature_definitions.counted import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (2000, "2,000 rows")])
def test_one_thing_is_said_in_the_singular(number: int, said: str) -> None:
    assert counted(number, "row") == said
