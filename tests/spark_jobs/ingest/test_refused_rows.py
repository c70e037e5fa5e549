"""Values stand in quarantine as Spark writes them, whoever puts them there."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from spark_jobs.ingest import refused_rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.001, "0.001"),
        (0.00012, "1.2E-4"),
        (9999999.5, "9999999.5"),
        (1e7, "1.0E7"),
        (-12345678.9, "-1.23456789E7"),
        (1.5e300, "1.5E300"),
        (100.0, "100.0"),
        (True, "true"),
        (7, "7"),
        (date(26, 1, 5), "0026-01-05"),
        (datetime(26, 1, 5, 6, tzinfo=UTC), "0026-01-05 06:00:00"),
        (datetime(2026, 1, 5, 6, 0, 0, 120_000, tzinfo=UTC), "2026-01-05 06:00:00.12"),
        (Decimal("0.0000001"), "0.0000001"),
    ],
)
def test_a_value_is_written_as_spark_writes_it(value: object, text: str) -> None:
    assert refused_rows._text(value) == text
