"""Settings: one file and known variables, nothing guessed, no secret shown."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from feature_definitions.connections import ConnectionRefused
from feature_definitions.settings import VARIABLES, Settings, SettingsError, load, of_command, passwords, project_folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "headwater.toml").write_text('[project]\nname = "shop"\n')
    return tmp_path


def loaded(project: Path, **variables: str) -> Settings:
    return load(project, environment={"HOME": "/home/x", **variables})


def test_a_name_is_all_that_a_project_needs(project: Path) -> None:
    settings = loaded(project, XDG_CACHE_HOME="/var/cache")
    root = project.resolve()
    assert settings == Settings(
        root=root,
        name="shop",
        catalog=root / "catalog",
        lake=str(root / "lake"),
        cache=Path("/var/cache/headwater"),
        spark_master="local[*]",
        driver_memory="3g",
        registry_url=f"sqlite:///{root}/.headwater/registry.db",
        redis_url=None,
    )
    assert settings.state == root / ".headwater"


def test_the_file_may_say_where_things_lie(project: Path) -> None:
    (project / "headwater.toml").write_text(
        '[project]\nname = "shop"\ncatalog = "features"\nlake = "/data/lake"\nregistry_url = "postgresql://db/r"\n'
        'spark_master = "local[2]"\ndriver_memory = "1g"\n'
    )
    settings = loaded(project)
    assert (settings.catalog, settings.lake) == (project.resolve() / "features", "/data/lake")
    assert (settings.registry_url, settings.spark_master, settings.driver_memory) == ("postgresql://db/r", "local[2]", "1g")


def test_a_date_is_a_date(project: Path) -> None:
    assert loaded(project).catch_up_from is None
    assert loaded(project, HEADWATER_CATCH_UP_FROM="2026-01-05").catch_up_from == date(2026, 1, 5)
    assert loaded(project, HEADWATER_ALERT_URL="").alert_url is None
    with pytest.raises(SettingsError, match="HEADWATER_ALERT_URL is no address that can be posted to; write one like https://") as refused:
        loaded(project, HEADWATER_ALERT_URL="chat/key")
    assert "chat/key" not in str(refused.value)
    with pytest.raises(SettingsError, match="HEADWATER_CATCH_UP_FROM is 'last week', which is no date; write one like 2026-01-05"):
        loaded(project, HEADWATER_CATCH_UP_FROM="last week")


def test_a_variable_goes_before_the_file(project: Path) -> None:
    (project / "headwater.toml").write_text(
        '[project]\nname = "shop"\nlake = "a"\nspark_master = "b"\ndriver_memory = "1g"\nregistry_url = "c"\n'
    )
    settings = loaded(
        project,
        HEADWATER_LAKE="elsewhere",
        HEADWATER_SPARK_MASTER="spark://m:7077",
        HEADWATER_DRIVER_MEMORY="2g",
        HEADWATER_REGISTRY_URL="sqlite://",
        HEADWATER_REDIS_URL="redis://r:6379",
        HEADWATER_CACHE="/jars",
    )
    assert (settings.lake, settings.spark_master, settings.driver_memory) == (str(project.resolve() / "elsewhere"), "spark://m:7077", "2g")
    assert (settings.registry_url, settings.redis_url, settings.cache) == ("sqlite://", "redis://r:6379", Path("/jars"))


def test_an_empty_variable_counts_as_none(project: Path) -> None:
    assert loaded(project, **dict.fromkeys(VARIABLES, "")) == loaded(project)


@pytest.mark.parametrize("lake", ["gs://bucket/lake", "abfss://c@a.dfs.core.windows.net/lake", "hdfs://name/lake"])
def test_a_lake_that_lies_neither_in_a_folder_nor_on_s3_is_refused_by_name(project: Path, lake: str) -> None:
    with pytest.raises(SettingsError, match=rf"lake in headwater.toml\) is '{lake}'; a lake lies in a local folder or on S3"):
        loaded(project, HEADWATER_LAKE=lake)
    (project / "headwater.toml").write_text(f'[project]\nname = "shop"\nlake = "{lake}"\n')
    with pytest.raises(SettingsError, match="a lake lies in a local folder or on S3"):
        loaded(project)


@pytest.mark.parametrize(
    ("said", "lake"), [("s3a://bucket/lake/", "s3a://bucket/lake"), ("s3a://my.bucket-1", "s3a://my.bucket-1"), ("s3a://b1b/A_b/c.d", None)]
)
def test_a_lake_may_lie_on_s3(project: Path, said: str, lake: str | None) -> None:
    assert loaded(project, HEADWATER_LAKE=said).lake == (lake or said)


@pytest.mark.parametrize("said", ["s3://bucket/lake", "s3n://bucket/lake/"])
def test_another_name_of_s3_is_refused_with_the_one_to_write(project: Path, said: str) -> None:
    with pytest.raises(SettingsError, match="write s3a:, which all programs understand, like 's3a://bucket/lake'"):
        loaded(project, HEADWATER_LAKE=said)


@pytest.mark.parametrize("said", ["s3a:bucket/lake", "s3a://", "s3a://Bucket/lake", "s3a://my_bucket", "s3a://ab"])
def test_a_bucket_that_cannot_be_one_is_refused(project: Path, said: str) -> None:
    with pytest.raises(SettingsError, match="write s3a://bucket/prefix, the bucket in 3 to 63 small letters"):
        loaded(project, HEADWATER_LAKE=said)


@pytest.mark.parametrize("said", ["s3a://marked:secret@bucket/lake", "s3://marked:secret@bucket", "hdfs://marked:secret@host/lake"])
def test_a_lake_that_names_keys_is_refused_without_them(project: Path, said: str) -> None:
    with pytest.raises(SettingsError, match="a lake names no keys: write s3a://bucket/prefix") as refused:
        loaded(project, HEADWATER_LAKE=said)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("part", ["a b", "über", "a#b", "a?b", "a%20b", "[a]", "..", "", "a=b", "a*"])
def test_a_prefix_that_some_program_does_not_read_is_refused(project: Path, part: str) -> None:
    with pytest.raises(SettingsError, match="is not read by all programs"):
        loaded(project, HEADWATER_LAKE=f"s3a://bucket/{part}/lake")


@pytest.mark.parametrize("lake", ["file:///data/my%20lake", "file:/data/my%20lake"])
def test_a_lake_named_by_a_url_of_a_file_is_refused_with_its_path(project: Path, lake: str) -> None:
    with pytest.raises(SettingsError, match="write the path alone, like '/data/my lake'"):
        loaded(project, HEADWATER_LAKE=lake)


@pytest.mark.parametrize("sign", ["[1]", "]", "^", "|", "\\", "%20", "\t", "\x7f"])
def test_a_lake_where_deltalake_finds_no_tables_is_refused_with_the_sign_that_is_to_blame(project: Path, sign: str) -> None:
    with pytest.raises(SettingsError, match=r"where deltalake finds no tables because of the '.{1,4}' in the path"):
        loaded(project, HEADWATER_LAKE=f"a{sign}b")


@pytest.mark.parametrize("sign", ["#", "?", "%20", "ü", "[1]"])
def test_the_registry_lies_in_the_project_whatever_signs_its_folder_has(tmp_path: Path, sign: str) -> None:
    folder = tmp_path / f"a{sign}b"
    folder.mkdir()
    (folder / "headwater.toml").write_text('[project]\nname = "shop"\n')
    url = loaded(folder, HEADWATER_LAKE="/lake").registry_url
    assert unquote(urlsplit(url).path) == f"/{folder.resolve()}/.headwater/registry.db"


@pytest.mark.parametrize("sign", [" ", "ü", "#", "?", "%", "100%", "{1}", "'", '"', "*", "~", "日本"])
def test_a_lake_may_have_other_signs_in_its_path(project: Path, sign: str) -> None:
    assert loaded(project, HEADWATER_LAKE=f"a{sign}b").lake == str(project.resolve() / f"a{sign}b")


def test_a_variable_that_is_not_known_is_refused_by_name(project: Path) -> None:
    with pytest.raises(SettingsError, match=r"HEADWATER_REDDIS_URL is not known; there are .*HEADWATER_REDIS_URL") as refused:
        loaded(project, HEADWATER_REDDIS_URL="redis://:secret@host")
    assert "secret" not in str(refused.value)


def test_variables_of_others_are_not_looked_at(project: Path) -> None:
    assert loaded(project, HEAD="x", REDIS_URL="redis://other", LAKE="x") == loaded(project)


def test_no_url_is_shown(project: Path) -> None:
    settings = loaded(project, HEADWATER_REGISTRY_URL="postgresql://u:hunter2@db/r", HEADWATER_REDIS_URL="redis://:hunter2@host")
    assert "hunter2" not in repr(settings) + str(settings) + f"{settings}"
    assert "shop" in repr(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write the project's name"),
        ("[project]\n", "write the project's name"),
        ('[project]\nname = "My Shop"\n', "write the project's name, small letters"),
        ('[project]\nname = "shop"\nlakes = "x"\n', "'lakes' is not a setting; [project] has catalog, driver_memory, lake, name"),
        ('[project]\nname = "shop"\n[spark]\nmaster = "x"\n', "'spark' is not a setting"),
        ("[project]\nname = 3\n", 'name must be a text that is not empty, like name = "..."'),
        ('[project]\nname = "shop"\nlake = ""\n', "lake must be a text that is not empty"),
        ('[project]\nname = "shop"\nlake = ["a"]\n', "lake must be a text"),
        ('name = "shop"\n', "name stands alone; write a line [project] and the settings below it"),
        ('project = "shop"\n', "project stands alone; write a line [project]"),
        ("[project\n", "cannot be read: "),
        ("[project]\nname = 'a'\nname = 'b'\n", "cannot be read: "),
    ],
)
def test_a_wrong_file_is_told_by_name(project: Path, text: str, message: str) -> None:
    file = project / "headwater.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        loaded(project)
    assert str(refused.value).startswith(str(file.resolve()))
    assert message in str(refused.value)


def test_a_file_of_other_bytes_is_told_by_name(project: Path) -> None:
    (project / "headwater.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"headwater\.toml cannot be read"):
        loaded(project)


def test_a_folder_that_is_no_project_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"has no headwater\.toml\. Make one with `headwater init empty`, or name yours by --project DIR or HEADWATER_PROJECT",
    ):
        load(tmp_path / "empty", environment={})


def test_the_project_is_the_folder_given_else_the_variable_else_here() -> None:
    assert project_folder("given", environment={"HEADWATER_PROJECT": "set"}) == Path("given")
    assert project_folder(None, environment={"HEADWATER_PROJECT": "set"}) == Path("set")
    assert project_folder(None, environment={}) == Path()
    with pytest.raises(SettingsError, match="HEADWATER_PROJEKT is not known"):
        project_folder("given", environment={"HEADWATER_PROJEKT": "x"})


def test_the_environment_is_read_when_none_is_given(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADWATER_REDIS_URL", "redis://seen")
    assert load(project).redis_url == "redis://seen"


def test_the_registry_s_url_may_lie_in_a_file(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:hunter2@db/r\n")
    found = loaded(project, HEADWATER_REGISTRY_URL_FILE=str(file))
    assert (found.registry_url, found.promote) == ("postgresql://u:hunter2@db/r", "manual")
    assert "hunter2" not in repr(found)


def test_a_file_of_the_registry_s_url_that_cannot_be_used_is_named(project: Path, tmp_path: Path) -> None:
    empty, absent = tmp_path / "empty", tmp_path / "absent"
    empty.write_text(" \n")
    with pytest.raises(SettingsError, match=r"HEADWATER_REGISTRY_URL_FILE names, .*/empty, is empty"):
        loaded(project, HEADWATER_REGISTRY_URL_FILE=str(empty))
    with pytest.raises(SettingsError, match=r"HEADWATER_REGISTRY_URL_FILE names, .*/absent, cannot be read: No such file"):
        loaded(project, HEADWATER_REGISTRY_URL_FILE=str(absent))
    with pytest.raises(SettingsError, match="are both set; remove one of them"):
        loaded(project, HEADWATER_REGISTRY_URL_FILE=str(empty), HEADWATER_REGISTRY_URL="sqlite:////x.db")


def test_settings_can_not_be_changed(project: Path) -> None:
    with pytest.raises(AttributeError):
        loaded(project).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "said", "found"),
    [
        ("sqlite:////r.db", None, "auto"),
        ("postgresql://db/r", None, "manual"),
        ("postgresql+psycopg://db/r", None, "manual"),
        ("sqlite:////r.db", "manual", "manual"),
        ("postgresql://db/r", "auto", "auto"),
    ],
)
def test_a_run_promotes_in_a_registry_of_ones_own_and_a_person_in_a_shared_one(
    project: Path, url: str, said: str | None, found: str
) -> None:
    variables = {} if said is None else {"HEADWATER_PROMOTE": said}
    assert loaded(project, HEADWATER_REGISTRY_URL=url, **variables).promote == found


def test_the_file_may_say_who_promotes(project: Path) -> None:
    (project / "headwater.toml").write_text('[project]\nname = "shop"\npromote = "manual"\n')
    assert loaded(project).promote == "manual"
    assert loaded(project, HEADWATER_PROMOTE="auto").promote == "auto"


def test_a_wrong_word_for_who_promotes_is_refused(project: Path) -> None:
    with pytest.raises(SettingsError, match=r"HEADWATER_PROMOTE .* is 'never'; write auto or manual"):
        loaded(project, HEADWATER_PROMOTE="never")


def test_connections_to_databases_are_variables_by_name_and_are_not_shown(project: Path) -> None:
    settings = loaded(project, HEADWATER_CONNECTION_WAREHOUSE="postgresql://u:hunter2@db/shop", HEADWATER_CONNECTION_EMPTY="")
    assert settings.connection("warehouse").database == "shop"
    assert "hunter2" not in repr(settings)
    with pytest.raises(ConnectionRefused, match="'empty' is not set"):
        settings.connection("empty")


@pytest.mark.parametrize(
    "name", ["HEADWATER_CONNECTION", "HEADWATER_CONNECTION_", "HEADWATER_CONNECTION_warehouse", "HEADWATER_CONNECTION_1"]
)
def test_a_variable_that_names_no_connection_is_not_known(project: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not known; there are .*, and HEADWATER_CONNECTION_<NAME> for databases"):
        loaded(project, **{name: "postgresql://db/shop"})


def test_jars_of_ones_own_are_files_that_are_there(project: Path) -> None:
    (project / "a.jar").touch()
    (project / "b.jar").touch()
    root = project.resolve()
    assert loaded(project, HEADWATER_SPARK_JARS=f"a.jar, {root}/b.jar").spark_jars == (root / "a.jar", root / "b.jar")
    with pytest.raises(SettingsError, match=r"HEADWATER_SPARK_JARS \(spark_jars in headwater.toml\) names .*/c.jar, which is no file"):
        loaded(project, HEADWATER_SPARK_JARS="c.jar")


def test_a_commands_environment_has_the_urls_of_airflows_connections_and_all_else_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CONNECTION_A", "airflow://shop")
    monkeypatch.setenv("HEADWATER_CONNECTION_B", "postgresql://u:word1@db/b")
    monkeypatch.setenv("HEADWATER_CACHE", "airflow://cache")
    found = of_command(lambda connection: f"postgres://u:word2@db/{connection}")
    assert found == {**os.environ, "HEADWATER_CONNECTION_A": "postgres://u:word2@db/shop"}
    assert passwords(found) == {"word1", "word2"}
