"""What Feast's registry is told of definitions, read back; what is defined no more goes, what is another's stays."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import headwater as hw
from feast_bridge import told
from tests.feast_bridge import shops
from tests.projects import write

with warnings.catch_warnings(action="ignore"):
    from feast import Entity, FeatureStore, ValueType
    from feast.repo_operations import parse_repo

    from feast_bridge import objects, projects, repository
    from feast_bridge.refused import FeastRefused

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")


def store(repo: Path) -> FeatureStore:
    return FeatureStore(repo_path=str(repo))


@pytest.fixture
def p(tmp_path: Path) -> hw.Project:
    """The little project, of which nothing was computed."""
    return hw.open(shops.made(tmp_path / "shop"))


def test_what_the_registry_says_is_what_is_defined(p: hw.Project, tmp_path: Path) -> None:
    done = repository.apply(p, tmp_path / "feast")
    found = objects.read_back(store(tmp_path / "feast").registry, "shop")
    assert found == told.of_catalog(p.catalog)
    assert (done.entities, done.feature_views, done.on_demand_feature_views, done.feature_services) == (3, 4, 1, 3)


def test_a_definition_that_went_is_taken_from_the_registry_and_what_is_anothers_stays(p: hw.Project, tmp_path: Path) -> None:
    repository.apply(p, tmp_path / "feast")
    store(tmp_path / "feast").apply([Entity(name="mine", join_keys=["mine"], value_type=ValueType.STRING)])
    services = {name: each for name, each in p.catalog.services.items() if name != "shop_v1"}
    done = repository.apply(replace(p, catalog=replace(p.catalog, services=services)), tmp_path / "feast")
    assert done.removed == ["FeatureService shop_v1", "OnDemandFeatureView new_share", "RequestSource new_share_request"]
    assert "mine" in {each.name for each in store(tmp_path / "feast").list_entities()}


def test_feast_finds_in_the_repository_what_was_applied(p: hw.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.apply(p, tmp_path / "feast")
    monkeypatch.chdir(tmp_path / "feast")
    monkeypatch.syspath_prepend(tmp_path / "feast")
    found = parse_repo(tmp_path / "feast")
    assert {each.name for each in found.feature_views} == {*p.catalog.tables}
    assert {each.name for each in found.feature_services} == {*p.catalog.services}


def test_settings_that_a_person_changed_stay(p: hw.Project, tmp_path: Path) -> None:
    repository.apply(p, tmp_path / "feast")
    settings = tmp_path / "feast" / repository.SETTINGS
    settings.write_text(settings.read_text().replace("project: shop", "project: market"))
    repository.apply(p, tmp_path / "feast")
    assert objects.read_back(store(tmp_path / "feast").registry, "market") == told.of_catalog(p.catalog)


def test_a_repository_with_other_stores_is_refused(p: hw.Project, tmp_path: Path) -> None:
    write(tmp_path / "other", repository.SETTINGS, "project: other\nprovider: local\nregistry: r.db\nentity_key_serialization_version: 3\n")
    with pytest.raises(FeastRefused, match="has another offline_store; name another folder by --repo"):
        repository.apply(p, tmp_path / "other")


def test_settings_a_registry_and_a_folder_that_cannot_be_used_are_named(p: hw.Project, tmp_path: Path) -> None:
    repository.apply(p, tmp_path / "feast")
    write(tmp_path / "feast", "registry.db", "none")
    with pytest.raises(FeastRefused, match=r"Feast cannot read .*feast: DecodeError: .*move the registry away: it is made anew"):
        repository.apply(p, tmp_path / "feast")
    write(tmp_path / "feast", repository.SETTINGS, "project: [")
    with pytest.raises(FeastRefused, match=r"Feast cannot read .*: ParserError: while parsing a flow .*mend its feature_store"):
        repository.apply(p, tmp_path / "feast")
    with pytest.raises(FeastRefused, match=r"registry\.db cannot be written to: FileExistsError.*name another folder by --repo"):
        repository.apply(p, tmp_path / "feast" / "registry.db")


def test_a_registry_that_says_something_else_is_noticed(p: hw.Project, tmp_path: Path) -> None:
    repository.apply(p, tmp_path / "feast")
    said = told.of_catalog(p.catalog)
    views = {**said.views, "spend": said.views["spend"]._replace(owner="nobody")}
    with pytest.raises(repository.NotEqual, match="of views, spend: Feast was told"):
        repository.check_equal(said._replace(views=views), store(tmp_path / "feast").registry, "shop")


def test_a_name_of_a_project_that_no_store_reads_is_refused() -> None:
    with pytest.raises(FeastRefused, match="no store in this process reads the project 'elsewhere'"):
        projects.named("elsewhere")


def test_a_group_that_went_is_refused_with_what_to_run(p: hw.Project) -> None:
    with pytest.raises(FeastRefused, match="has no group 'gone'; it has last_payment, secret, spend, town"):
        projects.group(p, "gone")


VALUES: dict[str, Any] = {"decimal(10,2)": "decimal_val", "array<date>": "unix_timestamp_list_val", "boolean": "bool_val"}


@pytest.mark.parametrize(
    "kind", ["string", "int64", "double", "boolean", "timestamp", "date", "decimal(10,2)", "array<date>", "array<string>"]
)
def test_every_type_comes_back_from_feast_as_it_was(kind: str) -> None:
    from feast.field import Field

    from feast_bridge import value_types

    assert value_types.ours(Field.from_proto(value_types.field("x", kind).to_proto())) == kind
