"""What `headwater init` makes: a whole project that holds, in an empty folder; the chain of commands on it is tested with the command."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import headwater as hw
from examples import starter
from feature_definitions import settings

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 20, 15, 30, tzinfo=UTC)


def test_a_new_project_has_settings_a_catalog_and_data(tmp_path: Path) -> None:
    folder = starter.make(tmp_path / "shop", now=NOW)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".gitignore", "headwater.toml", "catalog/customer_spend.py", "catalog/services.py", "catalog/sources.py",
        "data/payments/payments.csv",
    }  # fmt: skip


def test_its_catalog_holds_one_of_each(tmp_path: Path) -> None:
    found = hw.open(starter.make(tmp_path / "shop", now=NOW)).catalog
    assert [list(kind) for kind in (found.entities, found.sources, found.groups, found.services)] == [
        ["customer"], ["payments"], ["customer_spend"], ["customer_v1"],
    ]  # fmt: skip


def test_its_payments_are_of_the_last_forty_days_and_none_is_of_the_future(tmp_path: Path) -> None:
    with (starter.make(tmp_path / "shop", now=NOW) / "data/payments/payments.csv").open() as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["paid_at"]) for row in rows]
    assert (len(rows), len({row["payment_id"] for row in rows})) == (200, 200)
    assert NOW - timedelta(days=41) < min(times) < NOW - timedelta(days=35)
    assert NOW - timedelta(days=4) < max(times) < NOW


def test_the_same_moment_makes_the_same_data(tmp_path: Path) -> None:
    one, two = ((starter.make(tmp_path / name, now=NOW) / "data/payments/payments.csv").read_text() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("shop", "shop"),
        ("My Shop!", "my_shop"),
        ("2026", "project_2026"),
        ("Größe", "gr_e"),
        ("___", "project"),
        ("x" * 200, "project_" + "x" * 55),
    ],
)
def test_a_project_is_named_after_its_folder_by_letters_that_a_name_may_have(tmp_path: Path, folder: str, name: str) -> None:
    assert settings.load(starter.make(tmp_path / folder, now=NOW), environment={}).name == name


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert starter.make(tmp_path, now=NOW) == tmp_path


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(starter.FolderRefused, match="is not empty; name a new folder, nothing was changed"):
        starter.make(tmp_path, now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_is_no_folder_to_make_a_project_in(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    with pytest.raises(starter.FolderRefused):
        starter.make(tmp_path / "shop", now=NOW)


def test_a_folder_below_which_no_table_could_be_found_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match="because of the '\\['"):
        starter.make(tmp_path / "a[1]" / "p")
    assert list(tmp_path.iterdir()) == []
