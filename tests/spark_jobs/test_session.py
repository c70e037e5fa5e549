"""Spark starts from classes that were kept for exactly this Java, pyspark and jars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal
from unittest.mock import MagicMock, patch

import pytest

from lake.s3 import Reach
from spark_jobs import jvm, session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests import s3


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


def test_an_endpoint_of_ones_own_is_asked_by_paths_and_amazon_by_host_names() -> None:
    own = session.s3_conf(Reach("http://127.0.0.1:9000", "us-east-1", "variables"))
    amazon = session.s3_conf(Reach(None, "eu-central-1", "role"))
    assert own["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:9000"
    assert own["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert amazon["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
    assert not {"spark.hadoop.fs.s3a.endpoint", "spark.hadoop.fs.s3a.path.style.access"} & amazon.keys()


@pytest.mark.parametrize("keys", ["variables", "profile", "role"])
def test_spark_finds_the_keys_itself_wherever_they_are(keys: Literal["variables", "profile", "role"]) -> None:
    said = session.s3_conf(Reach(None, "eu-central-1", keys))
    assert said["spark.hadoop.fs.s3a.aws.credentials.provider"].endswith(".DefaultCredentialsProvider")
    assert not [name for name in said if "key" in name or "secret" in name]


def test_a_spark_without_the_jars_of_s3_is_refused_at_once() -> None:
    without = MagicMock()
    without._jvm.org.apache.spark.util.Utils.classIsLoadable.return_value = False
    with pytest.raises(jvm.SparkUnavailable, match="in a process of its own"):
        session.tell_of_s3(without, Reach(None, "eu-central-1", "role"))


def test_a_name_of_a_set_of_jars_is_short_enough_for_a_folder() -> None:
    assert [len(jvm._folder(each)) < 255 for each in (jvm.DELTA, jvm.S3)] == [True, True]


def test_spark_writes_to_s3_what_it_reads_there(spark: SparkSession, on_s3: s3.Server) -> None:
    bucket = on_s3.bucket("written-by-spark")
    spark.range(10).repartition(2).write.parquet(f"{bucket}/ten rows")
    assert spark.read.parquet(f"{bucket}/ten rows").count() == 10
