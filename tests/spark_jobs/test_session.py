"""Spark starts from classes that were kept for exactly this Java, pyspark and jars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from spark_jobs import jvm, session

if TYPE_CHECKING:
    import pytest
    from pyspark.sql import SparkSession


def test_spark_was_started_from_the_classes_that_the_environment_keeps(spark: SparkSession) -> None:
    java = spark._jvm
    assert java is not None
    said = [str(argument) for argument in java.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments()]
    kept = [Path(argument.partition("=")[2]) for argument in said if argument.startswith("-XX:SharedArchiveFile=")]
    assert [path.is_file() for path in kept] == [True]


def test_other_jars_have_other_classes() -> None:
    assert jvm.classes([Path("delta.jar")]) == jvm.classes([Path("delta.jar")])
    assert jvm.classes([Path("delta.jar")]) != jvm.classes([Path("delta-2.jar")])


def test_classes_that_are_there_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "spark-1.jsa"
    kept.write_bytes(b"classes")
    monkeypatch.setattr(session, "classes", lambda _: kept)
    with patch.object(session, "session", side_effect=AssertionError("Spark was started")):
        session.keep_classes([])
    assert kept.read_bytes() == b"classes"
