"""Connections: what a URL says, what is wrong with it, and that nothing of it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feature_definitions.connections import Connection, ConnectionRefused, passwords, read

if TYPE_CHECKING:
    from pathlib import Path

AT = "HEADWATER_CONNECTION_WAREHOUSE"


def of(url: str) -> Connection:
    return read("warehouse", {AT: url})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:p%40ss@db.example:5433/shop?sslmode=require",
        "jdbc:postgresql://db.example:5433/shop?user=ada&password=p%40ss&sslmode=require",
        " postgres://ada:p%40ss@db.example:5433/shop?sslmode=require\n",
    ],
)
def test_a_url_of_postgresql_may_be_spelled_in_each_usual_way(url: str) -> None:
    expected = Connection("warehouse", "postgresql", "db.example", 5433, "shop", "ada", "p@ss", {"sslmode": "require"})
    assert of(url) == expected


@pytest.mark.parametrize(
    ("url", "kind", "host", "database"),
    [
        ("redshift://u:p@cluster:5439/dev?tempdir=s3a://b/t", "redshift", "cluster", "dev"),
        ("snowflake://u:p@acme-eu/sales/public?warehouse=w", "snowflake", "acme-eu", "sales/public"),
        ("bigquery://my-project/sales?credentialsFile=/k.json", "bigquery", "my-project", "sales"),
        ("bigquery://my-project", "bigquery", "my-project", ""),
    ],
)
def test_other_databases_have_urls_of_their_own(url: str, kind: str, host: str, database: str) -> None:
    assert (of(url).kind, of(url).host, of(url).database) == (kind, host, database)


def test_the_url_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://db/shop\n")
    assert read("warehouse", {f"{AT}_FILE": str(tmp_path / "url")}).database == "shop"


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "12/34", "p#ss", "p?ss", "12?34", "100%", "p%ss", "a:b@c"])
def test_a_password_with_signs_of_a_url_is_used_as_it_is_or_refused_with_the_way_to_write_it(password: str) -> None:
    try:
        assert of(f"postgresql://u:{password}@db/shop").password == password
    except ConnectionRefused as refused:
        assert "percent-encode what user and password hold" in str(refused)
        assert password not in str(refused)


@pytest.mark.parametrize(
    "url", ["", "warehouse", "mysql://u:s3cr3t@h/d", "postgresql:s3cr3t", "postgresql://u:s3cr3t@h:99999/d", "jdbc:oracle:x"]
)
def test_what_is_no_url_of_a_database_that_can_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConnectionRefused, match=AT) as refused:
        of(url)
    assert "s3cr3t" not in str(refused.value)


def test_a_url_without_a_database_is_refused() -> None:
    with pytest.raises(ConnectionRefused, match="names no database after the host; write it like postgresql://"):
        of("postgresql://u:p@host:5432")


def test_a_connection_that_is_not_set_is_told_by_its_variables() -> None:
    with pytest.raises(ConnectionRefused, match=rf"'warehouse' is not set; set {AT} to its URL, .* or {AT}_FILE to a file"):
        read("warehouse", {})


def test_a_url_and_a_file_at_once_are_refused() -> None:
    with pytest.raises(ConnectionRefused, match=f"{AT} and {AT}_FILE are both set"):
        read("warehouse", {AT: "postgresql://h/d", f"{AT}_FILE": "/f"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionRefused, match=rf"the file that {AT}_FILE names, .*/none, cannot be read: No such file"):
        read("warehouse", {f"{AT}_FILE": str(tmp_path / "none")})


def test_a_connection_shows_no_secret() -> None:
    connection = of("postgresql://ada:s3cr3t@db/shop?sslpassword=k3y")
    assert "s3cr3t" not in repr(connection)
    assert "k3y" not in repr(connection)
    assert "ada" not in repr(connection)
    assert connection.place == "db/shop"
    assert connection.hidden("login of ada by s3cr3t with k3y failed") == "login of ada by *** with *** failed"


def test_a_connection_of_airflows_is_refused_outside_of_its_tasks() -> None:
    with pytest.raises(ConnectionRefused, match=r"names Airflow's connection 'shop', which only a task of Airflow's looks up; write"):
        of("airflow://shop")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://ada:p%40ss@db/shop", {"p%40ss", "p@ss"}),
        ("jdbc:postgresql://ada:word@db:5432/shop?x=1", {"word"}),
        ("rediss://:word@host:6379/0", {"word"}),
        ("redis+sentinel://:word@one,two:7/shop/0?db=1&sentinel_password=w%26tch", {"word", "w%26tch", "w&tch"}),
        ("postgresql://db/shop", set()),
        ("sqlite:////home/ada@home/registry.db", set()),
        ("s3a://bucket/lake", set()),
        ("4g", set()),
    ],
)
def test_the_password_of_a_url_is_found_as_it_is_written_and_meant(url: str, found: set[str]) -> None:
    assert passwords(url) == found
