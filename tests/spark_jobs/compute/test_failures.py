"""What Spark raises is blamed on rows only where a value is at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyspark.errors import IllegalArgumentException

from spark_jobs.compute.failures import NotComputed, failing_alone

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession


def test_an_argument_with_a_condition_of_sparks_is_told_with_what_is_computed() -> None:
    wrong = IllegalArgumentException(errorClass="ARGUMENT_REQUIRED", messageParameters={"arg_name": "n", "condition": "n = 0"})
    with pytest.raises(NotComputed, match=r"source orders cannot be computed: .*; correct the rows"), failing_alone("source orders"):
        raise wrong


def test_an_option_of_a_reader_that_is_wrong_is_not_blamed_on_rows(spark: SparkSession, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    file.touch()
    with pytest.raises(IllegalArgumentException, match="basePath"), failing_alone("source orders"):
        spark.read.schema("id bigint").option("basePath", str(file)).parquet(str(file)).collect()
