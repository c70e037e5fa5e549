"""What `headwater new` writes is valid at once, lies where it belongs, and never takes the place of anything."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import feature_definitions
from examples import draft, source_draft, starter
from examples.draft import Draft, DraftRefused
from examples.source_draft import SourceDraft
from feature_definitions.check import checked
from feature_definitions.language import WindowedGroup

OURS = Path(feature_definitions.__file__).parent / "catalog"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project as `headwater init` makes it."""
    return starter.make(tmp_path / "shop")


def drafted(root: Path, name: str = "visits", *, source: str | None = None, folder: Path | None = None) -> Draft:
    folder = folder or root / "catalog"
    return draft.draft(name, checked(folder), folder=folder, root=root, source=source)


def test_the_drafted_group_is_part_of_the_catalog_at_once(shop: Path) -> None:
    made = drafted(shop)
    draft.write(made)
    group = checked(shop / "catalog").groups["visits"]
    assert isinstance(group, WindowedGroup)
    assert (group.source.name, group.entity.name) == ("payments", "customer")
    assert group.outputs == ("events_1d", "events_7d", "amount_1d", "amount_7d")
    assert made.group_file == shop / "catalog" / "visits.py"
    assert "from .sources import customer, payments" in made.group


def test_its_test_is_python_that_names_each_column_of_the_source(shop: Path) -> None:
    made = drafted(shop)
    assert made.test_file == shop / "tests" / "test_visits.py"
    (function,) = [node.name for node in ast.parse(made.test).body if isinstance(node, ast.FunctionDef)]
    assert function == "test_visits_holds_the_events_of_its_windows"
    assert all(f'"{column}": [' in made.test for column in ("payment_id", "customer_id", "amount", "paid_at"))
    assert 'CATALOG = Path(__file__).parent / "../catalog"' in made.test


def test_a_group_of_our_own_catalog_goes_beside_its_source_and_its_test_with_our_tests(tmp_path: Path) -> None:
    made = drafted(tmp_path, "turnaround", source="arrivals", folder=OURS)
    assert made.group_file == OURS / "flights" / "turnaround.py"
    assert made.test_file == OURS.parents[1] / "tests" / "feature_definitions" / "catalog" / "flights" / "test_turnaround.py"
    assert "from .sources import" in made.group


def test_nothing_is_written_over_a_file_that_is_there(shop: Path) -> None:
    for file in (drafted(shop).group_file, drafted(shop).test_file):
        file.parent.mkdir(exist_ok=True)
        file.write_text("# mine\n")
        with pytest.raises(DraftRefused, match=f"{file} is there already; nothing was written"):
            draft.write(drafted(shop))
        assert file.read_text() == "# mine\n"
        file.unlink()
        assert not drafted(shop).group_file.exists()
        assert not drafted(shop).test_file.exists()


def test_of_two_that_write_one_file_the_second_is_told(tmp_path: Path) -> None:
    made = SourceDraft(tmp_path / "new/clicks.py", "# mine\n", (), ())
    source_draft.write(made)
    with pytest.raises(DraftRefused, match=r"clicks\.py is there already; nothing was written"):
        source_draft.write(replace(made, text="# theirs\n"))
    assert made.file.read_text() == "# mine\n"


def test_a_name_that_is_taken_or_no_name_is_refused(shop: Path) -> None:
    with pytest.raises(DraftRefused, match=r"there is a group 'customer_spend' already, in .*customer_spend\.py; name the new one"):
        drafted(shop, "customer_spend")
    with pytest.raises(feature_definitions.DefinitionError, match="'Visits' cannot name a group; write small letters"):
        drafted(shop, "Visits")


def test_a_source_must_be_named_where_there_are_several_and_must_be_one_of_them(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DraftRefused, match="name the source that the group reads, like --source departures; there are departures, arrivals"
    ):
        drafted(tmp_path, "turnaround", folder=OURS)
    with pytest.raises(DraftRefused, match=r"no source 'arrival' with events .* Did you mean 'arrivals'\?"):
        drafted(tmp_path, "turnaround", source="arrival", folder=OURS)
    with pytest.raises(DraftRefused, match=r"no source 'planes' with events"):
        drafted(tmp_path, "turnaround", source="planes", folder=OURS)


def test_what_a_group_is_made_of_may_have_other_names_in_its_file_and_lie_in_other_folders(tmp_path: Path) -> None:
    for name, text in {
        "people/who.py": 'from feature_definitions import Entity\n\nshopper = Entity("customer", {"id": "string"})\n',
        "shop/events.py": (
            'from feature_definitions import Source\n\nclicks = Source(\n    "page_views", columns={"id": "string", "at": "timestamp"},\n'
            '    event_timestamp="at", timezone="UTC",\n)\n'
        ),
    }.items():
        (tmp_path / "catalog" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "catalog" / name).write_text(text)
    made = drafted(tmp_path)
    assert "from ..people.who import shopper\nfrom .events import clicks" in made.group
    assert "from datetime import UTC, datetime\n" in made.test
    draft.write(made)
    assert checked(tmp_path / "catalog").groups["visits"].outputs == ("events_1d", "events_7d")
