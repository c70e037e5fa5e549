"""What Spark is told to read each kind of database with. Those without a server here are tested as far as no account is needed."""

from __future__ import annotations

from dataclasses import replace

from feature_definitions import Jdbc
from feature_definitions.connections import read
from spark_jobs.ingest.connectors import Reader, reader

TABLE = Jdbc("sales.payments", connection="warehouse", fetch_size=500)
QUERY = Jdbc(query="SELECT 1 AS x", connection="warehouse")


def of(url: str, at: Jdbc = TABLE) -> Reader:
    return reader(read("warehouse", {"HEADWATER_CONNECTION_WAREHOUSE": url}), at)


def test_postgresql_is_read_by_sparks_own_reader_with_secrets_outside_of_the_url() -> None:
    found = of("postgresql://ada:s3cr3t@[::1]:5433/my shop?sslmode=require&connect_timeout=3&sslpassword=k3y")
    assert found.format == "jdbc"
    assert found.options["url"] == (
        "jdbc:postgresql://[::1]:5433/my%20shop?ApplicationName=headwater&tcpKeepAlive=true&sslmode=require&connectTimeout=3"
        "&readOnly=true&readOnlyMode=always"
    )
    assert (found.options["user"], found.options["password"], found.options["sslpassword"]) == ("ada", "s3cr3t", "k3y")
    assert (found.options["fetchsize"], found.options["preferTimestampNTZ"]) == ("500", "true")
    assert "s3cr3t" not in repr(found)


def test_a_state_that_somebody_holds_is_what_a_transaction_sees() -> None:
    held = replace(read("warehouse", {"HEADWATER_CONNECTION_WAREHOUSE": "postgresql://h/d"}), snapshot="00000003-1")
    assert reader(held, TABLE).options["sessionInitStatement"] == (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '00000003-1'; SET TIME ZONE 'UTC'"
    )


def test_nobody_turns_off_that_only_is_read() -> None:
    assert "readOnly=true" in of("postgresql://h/d?readOnly=false").options["url"]


def test_redshift_is_read_by_its_connector() -> None:
    assert of("redshift://u:p@cluster/dev?tempdir=s3a://b/t&aws_iam_role=r") == Reader(
        "io.github.spark_redshift_community.spark.redshift",
        {
            "url": "jdbc:redshift://cluster:5439/dev",
            "user": "u",
            "password": "p",
            "tempdir": "s3a://b/t",
            "aws_iam_role": "r",
            "dbtable": "sales.payments",
        },
    )


def test_snowflake_is_read_by_its_connector() -> None:
    assert of("snowflake://u:p@acme-eu/SALES/PUBLIC?warehouse=W&role=R", QUERY) == Reader(
        "net.snowflake.spark.snowflake",
        {
            "sfURL": "acme-eu.snowflakecomputing.com",
            "sfUser": "u",
            "sfPassword": "p",
            "sfDatabase": "SALES",
            "sfSchema": "PUBLIC",
            "sfWarehouse": "W",
            "sfRole": "R",
            "sfTimezone": "UTC",
            "query": "SELECT 1 AS x",
        },
    )


def test_bigquery_is_read_by_its_connector() -> None:
    def table(name: str, url: str = "bigquery://my-project/main") -> str:
        return of(url, Jdbc(name, connection="warehouse")).options["table"]

    assert (table("t"), table("sales.t"), table("other.sales.t")) == ("my-project.main.t", "my-project.sales.t", "other.sales.t")
    assert of("bigquery://my-project/scratch?credentialsFile=/k.json", QUERY) == Reader(
        "bigquery",
        {
            "parentProject": "my-project",
            "credentialsFile": "/k.json",
            "viewsEnabled": "true",
            "materializationProject": "my-project",
            "materializationDataset": "scratch",
            "query": "SELECT 1 AS x",
        },
    )
