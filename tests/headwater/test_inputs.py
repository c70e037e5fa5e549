"""What callers hand in becomes what jobs take."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from headwater import inputs

SOME = UUID("1e0534a7-c37b-491d-bde5-6ada8e04981c")


@pytest.mark.parametrize(
    "given",
    [
        [{"key": np.int64(7), "name": np.str_("a")}, {"key": pd.NA, "name": SOME}],
        pd.DataFrame({"key": pd.array([7, None], dtype="Int64"), "name": ["a", str(SOME)]}),
        pa.table({"key": [7, None], "name": ["a", str(SOME)]}),
    ],
    ids=["mappings of numpy", "pandas", "Arrow"],
)
def test_entities_are_mappings_or_a_frames_rows(given: object) -> None:
    assert inputs.entities(given) == [{"key": 7, "name": "a"}, {"key": None, "name": str(SOME)}]


def test_what_is_no_entity_stays_for_the_check_to_name_it() -> None:
    assert inputs.entities({"key": 7}) == {"key": 7}
    assert inputs.entities([7]) == [7]
