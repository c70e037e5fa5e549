"""The project's settings: headwater.toml and the HEADWATER_* variables, read once, typed and frozen; the environment is read only here."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast
from urllib.parse import quote, unquote, urlsplit

from feature_definitions import connections
from feature_definitions.connections import Connection
from feature_definitions.errors import UserError
from feature_definitions.language.databases import PREFIX
from feature_definitions.layout import S3

FILE = "headwater.toml"
VARIABLES = {
    "HEADWATER_PROJECT": "the project's folder",
    "HEADWATER_LAKE": "where Delta tables lie",
    "HEADWATER_REGISTRY_URL": "the registry's database",
    "HEADWATER_REGISTRY_URL_FILE": "a file that holds the URL of the registry's database",
    "HEADWATER_REDIS_URL": "a Redis or Valkey instead of the embedded one",
    "HEADWATER_SPARK_MASTER": "a Spark master instead of local[*]",
    "HEADWATER_SPARK_JARS": "jars that Spark is to have beside its own, with commas between them",
    "HEADWATER_DRIVER_MEMORY": "the Spark driver's memory, like 3g",
    "HEADWATER_CACHE": "where downloaded jars are kept",
    "HEADWATER_LINEAGE_FILE": "a file to which OpenLineage events are appended, where OPENLINEAGE_URL is not set",
    "HEADWATER_POOL": "the pool of Airflow in which tasks that compute run, instead of its default_pool",
    "HEADWATER_CATCH_UP_FROM": "a date: Airflow makes up for each day since then of which it made no run, with a run of its own",
    "HEADWATER_ALERT_URL": "where Airflow posts what a red run says that no person started, such as a chat's webhook",
    "HEADWATER_PROMOTE": "auto or manual: whether a new generation is shown to readers as soon as it covers what the old one does",
}
_KEYS = {"name", "catalog", "lake", "registry_url", "spark_master", "spark_jars", "driver_memory", "promote"}

_UNREADABLE = re.compile(r"[\[\]^|\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")
"""What deltalake 1.6 does not read in a path: of each of these signs it was seen that it fails or looks elsewhere."""

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9._-]+")
"""What deltalake, obstore, pyarrow and Hadoop's s3a all read the same way; of `#`, `?`, `[`, `^`, `|`, `%20` it was seen that one fails."""

Promote = Literal["auto", "manual"]


class SettingsError(UserError):
    """A setting that is unknown or cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a project lies and what it runs on. URLs may hold passwords, so `repr` hides them.

    `promote` says who shows a new generation of a group to readers: the run that completes it (auto), or a person (manual). `lineage` is
    the URL or the file that is told of runs in OpenLineage's words (None: nobody is), `mlflow` where MLflow keeps runs (None: the project).
    `catch_up_from`: of each day (UTC) since then Airflow makes a scheduled run, also of those of an outage (None: of the newest only).
    `alert_url` is where Airflow tells of red runs (None: nowhere).
    """

    root: Path
    name: str
    catalog: Path
    lake: str
    cache: Path
    spark_master: str = "local[*]"
    spark_jars: tuple[Path, ...] = ()
    driver_memory: str = "3g"
    registry_url: str = field(default="", repr=False)
    redis_url: str | None = field(default=None, repr=False)
    promote: Promote = "auto"
    pool: str = "default_pool"
    catch_up_from: date | None = None
    alert_url: str | None = field(default=None, repr=False)
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    lineage: str | None = field(default=None, repr=False)
    lineage_key: str | None = field(default=None, repr=False)
    mlflow: str | None = field(default=None, repr=False)

    @property
    def state(self) -> Path:
        """The folder of the project's own state: registry, embedded store, scratch space."""
        return self.root / ".headwater"

    def connection(self, name: str) -> Connection:
        """The connection to a database of a name; raises ConnectionRefused where its variable or the file that this names is wrong."""
        return connections.read(name, self.connections)


def load(root: Path, *, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of the project in `root`; a missing or wrong setting is named."""
    environment = os.environ if environment is None else environment
    variables = _variables(environment)
    root = root.expanduser().resolve()
    file = root / FILE
    if not file.is_file():
        raise SettingsError(
            f"{root} is no Headwater project: it has no {FILE}. Make one with `headwater init {root.name}`, "
            "or name yours by --project DIR or HEADWATER_PROJECT"
        )
    project = _project(file)
    registry = _registry(variables) or project.get("registry_url") or _registry_in(root / ".headwater")
    return Settings(
        root=root,
        name=project["name"],
        catalog=(root / project.get("catalog", "catalog")).resolve(),
        lake=_lake(variables.get("HEADWATER_LAKE") or project.get("lake", "lake"), root),
        cache=Path(variables.get("HEADWATER_CACHE") or _cache_home(environment)),
        spark_master=variables.get("HEADWATER_SPARK_MASTER") or project.get("spark_master", "local[*]"),
        spark_jars=_jars(variables.get("HEADWATER_SPARK_JARS") or project.get("spark_jars", ""), root),
        driver_memory=variables.get("HEADWATER_DRIVER_MEMORY") or project.get("driver_memory", "3g"),
        registry_url=registry,
        redis_url=variables.get("HEADWATER_REDIS_URL") or None,
        promote=_promote(variables.get("HEADWATER_PROMOTE") or project.get("promote"), registry),
        pool=variables.get("HEADWATER_POOL") or "default_pool",
        catch_up_from=_date("HEADWATER_CATCH_UP_FROM", variables.get("HEADWATER_CATCH_UP_FROM")),
        alert_url=_web_address("HEADWATER_ALERT_URL", variables.get("HEADWATER_ALERT_URL")),
        connections=MappingProxyType({name: value for name, value in variables.items() if name.startswith(PREFIX) and value}),
        lineage=environment.get("OPENLINEAGE_URL") or variables.get("HEADWATER_LINEAGE_FILE") or None,
        lineage_key=environment.get("OPENLINEAGE_API_KEY") or None,
        mlflow=environment.get("MLFLOW_TRACKING_URI") or None,
    )


def ask_mlflow_to_tell_nobody() -> None:
    """Have MLflow send no word of its use to its makers, unless somebody said otherwise; it looks when it is first imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def project_folder(given: str | None, *, environment: Mapping[str, str] | None = None) -> Path:
    """The project's folder: the one given, else HEADWATER_PROJECT, else the current one."""
    variables = _variables(os.environ if environment is None else environment)
    return Path(given or variables.get("HEADWATER_PROJECT") or ".")


def of_command(look_up: Callable[[str], str]) -> dict[str, str]:
    """The environment of a command that a task of Airflow's runs: what names one of Airflow's connections holds its URL, by `look_up`."""
    named = {name: connections.airflow_id(said) for name, said in _variables(os.environ).items() if connections.VARIABLE.fullmatch(name)}
    return {**os.environ, **{name: look_up(connection) for name, connection in named.items() if connection is not None}}


def passwords(environment: Mapping[str, str]) -> frozenset[str]:
    """The passwords in the URLs of an environment's variables of ours."""
    return frozenset(found for said in _variables(environment).values() for found in connections.passwords(said))


def _lake(said: str, root: Path) -> str:
    """The lake's folder, or its place on S3 without a slash at its end; what none of the two is, or cannot be read, is refused."""
    shown = re.sub(r"//[^/@]*:[^/]*@", "//***@", said)
    where = f"HEADWATER_LAKE (lake in {FILE}) is {shown!r}"
    if said != shown:
        raise SettingsError(f"{where}; a lake names no keys: write s3a://bucket/prefix, and the keys in AWS_ACCESS_KEY_ID and the like")
    if said.startswith("file:"):
        raise SettingsError(f"{where}; write the path alone, like {unquote(urlsplit(said).path)!r}")
    if said.startswith(("s3:", "s3n:")):
        raise SettingsError(f"{where}; write s3a:, which all programs understand, like {_on_s3(said)!r}")
    if said.startswith("s3a:"):
        return _s3_lake(said, where)
    if "://" in said:
        raise SettingsError(
            f"{where}; a lake lies in a local folder or on S3: write a path, like lake or /data/lake, or s3a://bucket/prefix"
        )
    lake = str((root / said).resolve())
    check_lake(lake)
    return lake


def _on_s3(said: str) -> str:
    return f"{S3}{said.partition(':')[2].strip('/')}"


def _s3_lake(said: str, where: str) -> str:
    """A lake on S3, if every program that reads it understands how it is called."""
    lake = _on_s3(said)
    bucket, *prefix = lake.removeprefix(S3).split("/")
    if not said.startswith(S3) or not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            f"{where}; write s3a://bucket/prefix, the bucket in 3 to 63 small letters, digits, - and ., a letter or digit first and last"
        )
    wrong = next((part for part in prefix if not _PART.fullmatch(part) or set(part) == {"."}), None)
    if wrong is not None:
        raise SettingsError(
            f"{where}; its part {wrong!r} is not read by all programs: write letters without accents, digits, _, - and . only"
        )
    return lake


def check_lake(path: str) -> None:
    """Refuse a path below which deltalake finds no tables."""
    if strange := _UNREADABLE.search(path):
        raise SettingsError(
            f"HEADWATER_LAKE (lake in {FILE}) lies in {path!r}, where deltalake finds no tables because of the {strange[0]!r} in the path; "
            "write a path without [ ] ^ | \\, without % before two hexadecimal digits, and without control characters"
        )


def _registry(variables: Mapping[str, str]) -> str:
    """The registry's URL as the environment says it, or the file that the environment names."""
    url, file = variables.get("HEADWATER_REGISTRY_URL", ""), variables.get("HEADWATER_REGISTRY_URL_FILE", "")
    if url and file:
        raise SettingsError("HEADWATER_REGISTRY_URL and HEADWATER_REGISTRY_URL_FILE are both set; remove one of them")
    if not file:
        return url
    try:
        found = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise SettingsError(f"the file that HEADWATER_REGISTRY_URL_FILE names, {file}, cannot be read: {reason}") from None
    if not found:
        raise SettingsError(f"the file that HEADWATER_REGISTRY_URL_FILE names, {file}, is empty; write the registry's URL into it")
    return found


def _registry_in(state: Path) -> str:
    """The URL of the registry that lies in the project: of its signs an URL would read `%`, `?` and `#` otherwise."""
    return f"sqlite:///{quote(str(state / 'registry.db'))}"


def _jars(said: str, root: Path) -> tuple[Path, ...]:
    """Paths of jars, each of which is there."""
    found = tuple((root / Path(part.strip()).expanduser()).resolve() for part in said.split(",") if part.strip())
    missing = next((jar for jar in found if not jar.is_file()), None)
    if missing is not None:
        raise SettingsError(
            f"HEADWATER_SPARK_JARS (spark_jars in {FILE}) names {missing}, which is no file; write paths of jars, with commas"
        )
    return found


def _promote(said: str | None, registry: str) -> Promote:
    """By default a person promotes where people share a registry, and the run does where one has it to themselves."""
    if said is None:
        return "auto" if registry.startswith("sqlite") else "manual"
    if said not in ("auto", "manual"):
        raise SettingsError(f"HEADWATER_PROMOTE (promote in {FILE}) is {said!r}; write auto or manual")
    return cast(Promote, said)


def _date(name: str, said: str | None) -> date | None:
    """The date that a variable says (UTC)."""
    if not said:
        return None
    try:
        return datetime.strptime(said, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise SettingsError(f"{name} is {said!r}, which is no date; write one like 2026-01-05") from None


def _web_address(name: str, said: str | None) -> str | None:
    """The address that a variable says, which may hold a key and is not shown."""
    if said and not said.startswith(("http://", "https://")):
        raise SettingsError(f"{name} is no address that can be posted to; write one like https://chat.example.com/hooks/key")
    return said or None


def _variables(environment: Mapping[str, str]) -> Mapping[str, str]:
    ours = {name: value for name, value in environment.items() if name.startswith("HEADWATER_")}
    unknown = sorted(name for name in ours if name not in VARIABLES and not connections.VARIABLE.fullmatch(name))
    if unknown:
        known = f"{', '.join(VARIABLES)}, and {PREFIX}<NAME> for databases"
        raise SettingsError(f"the variable {unknown[0]} is not known; there are {known}")
    return ours


def _project(file: Path) -> dict[str, str]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    project = document.get("project", {})
    stray = sorted(_KEYS & set(document))
    if stray or not isinstance(project, dict):
        raise SettingsError(f"{file}: {stray[0] if stray else 'project'} stands alone; write a line [project] and the settings below it")
    unknown = sorted([*(set(project) - _KEYS), *(set(document) - {"project"})])
    if unknown:
        raise SettingsError(f"{file}: {unknown[0]!r} is not a setting; [project] has {', '.join(sorted(_KEYS))}")
    wrong = next((key for key, value in project.items() if not isinstance(value, str) or not value), None)
    if wrong is not None:
        raise SettingsError(f'{file}: {wrong} must be a text that is not empty, like {wrong} = "..."')
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", project.get("name", "")):
        raise SettingsError(f'{file}: write the project\'s name, small letters, digits, _ and -, like name = "my_features"')
    return project


def _cache_home(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "headwater"
