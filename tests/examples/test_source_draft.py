"""The definition that is drafted of data can be used as it stands: it is loaded, and the same data is ingested with nothing put aside."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import delta_commits
from tests import projects
from tests.projects import NOW, within

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgresql import Server

AT = [NOW - timedelta(days=1, minutes=n) for n in range(3)]
GERMAN = "Kunde Nr.;Land;Betrag;Storno;Zeit\n" + "".join(
    f"{number:03};{land};1.{number}00,50;NULL;{day} 06:00\n"
    for number, land, day in ((7, "Öland", "5.01.2026"), (8, "Åland", "15.12.2025"), (9, "", "5.01.2026"))
)
LINES = "".join(f'{{"id": "v{n}", "seen_at": {int(at.timestamp() * 1000)}, "tags": ["a"], "agent": {{}}}}\n' for n, at in enumerate(AT))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project beside data of four kinds, of which a source is drafted each."""
    folder = projects.make(tmp_path_factory.mktemp("drafted"))
    projects.write(folder, "data/orders/a.csv", GERMAN.replace("NULL", "").encode("latin-1"))
    projects.write(folder, "data/clicks/a.jsonl.gz", gzip.compress(LINES.encode()))
    for n, at in enumerate(AT):
        path = folder / f"data/events/day=2026-01-0{n + 1}/a.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"Event ID": [n], "at": pa.array([at], pa.timestamp("us", tz="UTC")), "value": [1.5]}), path)
    projects.write(folder, "data/events/_SUCCESS", "")
    columns = {"order_id": [1, 2, 3], "total": [1.5, 2.5, None], "created_at": pa.array(AT, pa.timestamp("us", tz="UTC"))}
    delta_commits.append_records(str(folder / "data/bills"), pa.table(columns))
    return folder


DRAFTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "orders": (
        ("--from", "data/orders/*.csv", "--timezone", "Europe/Berlin"),
        (
            'Files("data/orders/*.csv", format="csv", csv=Csv(delimiter=";", encoding="latin-1", decimal=",", thousands="."))',
            '"kunde_nr": Column("string", "Kunde Nr."),  # its digits begin with 0',
            '"Betrag": "double",',
            '"Zeit": Column("timestamp", format="%d.%m.%Y %H:%M"),',
            'event_timestamp="Zeit",',
            'timezone="Europe/Berlin",',
            'id=("kunde_nr",),  # unique in the 3 rows',
        ),
    ),
    "clicks": (
        ("--from", "data/clicks"),
        (
            "# Left out, since they hold objects: agent.",
            'Files("data/clicks/*.jsonl.gz", format="jsonl")',
            '"tags": "array<string>",',
            '"seen_at": Column("timestamp", epoch="ms"),',
            'event_timestamp="seen_at",',
            'id=("id",),',
        ),
    ),
    "events": (
        ("--from", "data/events"),
        (
            'Files("data/events/**/*.parquet", format="parquet")',
            '"event_id": Column("int64", "Event ID"),',
            '"day": "date",  # the folders tell it',
            'event_timestamp="at",',
        ),
    ),
    "bills": (
        ("--from", "data/bills"),
        ('DeltaTable("data/bills")', '"total": "double",', 'event_timestamp="created_at",', 'id=("order_id",),'),
    ),
}


@pytest.fixture(scope="module")
def drafts(shop: Path) -> dict[str, projects.Done]:
    return {name: within("source", name, *words, "--json", project=shop) for name, (words, _) in DRAFTS.items()}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_says_how_the_data_lie_and_what_is_a_guess(shop: Path, drafts: dict[str, projects.Done], name: str) -> None:
    assert drafts[name].code == 0, drafts[name].err
    assert (drafts[name].json["decide"], drafts[name].json["rows"]) == ([], 3)
    text = (shop / f"catalog/{name}.py").read_text()
    assert [line for line in DRAFTS[name][1] if line not in text] == []


@pytest.mark.usefixtures("spark", "drafts")
def test_what_was_drafted_is_ingested_with_nothing_put_aside(shop: Path) -> None:
    assert within("check", project=shop).code == 0
    done = within("ingest", *DRAFTS, "--json", project=shop)
    assert (done.code, {each["source"]: each["rows"] for each in done.json["sources"]}) == (0, dict.fromkeys(DRAFTS, 3)), done.err
    rows = projects.table(shop / "lake/sources/orders")
    assert sorted(rows["Betrag"]) == [1700.5, 1800.5, 1900.5]
    assert sorted(rows["Zeit"])[0] == datetime(2025, 12, 15, 5, tzinfo=UTC)


@pytest.mark.usefixtures("spark")
def test_a_table_of_a_database_is_drafted_and_can_be_checked(tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CONNECTION_WAREHOUSE", postgresql.create("drafts"))
    postgresql.run(
        "CREATE TABLE paid (id bigint, amount numeric(12,2), at timestamptz)",
        "INSERT INTO paid SELECT i, i * 1.25, '2026-01-05 06:00+00'::timestamptz + i * interval '1 hour' FROM generate_series(1, 3) i",
        "INSERT INTO paid VALUES (4, 'NaN', 'infinity')",
        database="drafts",
    )
    done = within("source", "paid", "--connection", "warehouse", "--table", "paid", "--json", project=projects.make(tmp_path))
    assert (done.code, done.json["decide"], done.json["rows"]) == (0, [], 4), done.err
    text = (tmp_path / "catalog/paid.py").read_text()
    for line in ('Jdbc("paid", connection="warehouse"),', '"amount": "decimal(12,2)",', 'event_timestamp="at",', 'id=("id",),'):
        assert line in text
    assert within("check", project=tmp_path).code == 0


def drafted(folder: Path, text: str, *words: str, name: str = "a.csv") -> Any:
    projects.make(folder)
    projects.write(folder, name, text)
    return within("source", "mine", "--from", name, *words, "--json", project=folder)


def test_times_without_a_zone_must_be_decided_and_check_names_the_line(tmp_path: Path) -> None:
    done = drafted(tmp_path, "id,at\n1,2026-01-05 06:00\n2,2026-01-05 07:00\n")
    assert done.code == 0
    assert done.json["decide"] == ["timezone: where were the times of at written down? They carry no zone"]
    assert "timezone=None,  # DECIDE: where were the times of at written down?" in (tmp_path / "catalog/mine.py").read_text()
    check = within("check", project=tmp_path)
    assert check.code == 2
    assert "catalog/mine.py:" in check.err
    assert "timezone='UTC'" in check.err


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    projects.make(tmp_path, files={"catalog/mine.py": "x = 1\n"})
    assert drafted(tmp_path, "id,at\n1,2026-01-05T06:00Z\n").code == 2
    assert (tmp_path / "catalog/mine.py").read_text() == "x = 1\n"


def test_data_without_times_or_ids_say_what_must_be_decided(tmp_path: Path) -> None:
    done = drafted(tmp_path, "name,n\na,1\na,1\n")
    assert done.json["decide"] == ["say which column is the time (event_timestamp), or what makes a row unique (id)"]


def test_a_column_of_numbers_without_a_name_and_names_that_come_twice_are_left_out(tmp_path: Path) -> None:
    done = drafted(tmp_path, ",id,note,note,at\n0,a,x,y,2026-01-05T06:00Z\n1,b,x,y,2026-01-05T07:00Z\n")
    assert done.json["check"][0] == "left out, since the header has them more than once: note"
    text = (tmp_path / "catalog/mine.py").read_text()
    assert 'Files("a.csv", format="csv"),' in text
    assert '    columns={\n        "id": "string",\n        "at": "timestamp",\n    },' in text


def test_what_a_file_holds_counts_and_not_its_name(tmp_path: Path) -> None:
    done = drafted(tmp_path, '{"id": "a", "at": "2026-01-05T06:00Z"}\n')
    assert (done.code, 'Files("a.csv", format="jsonl"),' in (tmp_path / "catalog/mine.py").read_text()) == (0, True)


def test_the_first_source_of_a_project_is_drafted_before_anything_is_defined(tmp_path: Path) -> None:
    projects.make(tmp_path)
    for file in (tmp_path / "catalog").rglob("*.py"):
        file.unlink()
    projects.write(tmp_path, "a.csv", "id,at\n1,2026-01-05T06:00Z\n")
    assert within("source", "mine", "--from", "a.csv", project=tmp_path).code == 0
    assert within("check", project=tmp_path).code == 0


def test_a_source_is_drafted_while_another_waits_to_be_decided(tmp_path: Path) -> None:
    assert drafted(tmp_path, "id,at\n1,2026-01-05 06:00\n").json["decide"]
    assert within("source", "other", "--from", "a.csv", project=tmp_path).code == 0


def test_names_that_no_column_can_have_become_ones_that_can(tmp_path: Path) -> None:
    assert drafted(tmp_path, "ü,a.b,A.B,1st,_hw_x,at\nx,1,2,3,4,2026-01-05T06:00Z\n").code == 0
    text = (tmp_path / "catalog/mine.py").read_text()
    for line in ('"u": Column("string", "ü")', '"a_b": Column("int64", "a.b")', '"a_b_3": Column("int64", "A.B")', '"column_hw_x"'):
        assert line in text
    assert within("check", project=tmp_path).code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("source", "mine"), "say where the data are: --from"),
        (("source", "mine", "--from", "no/*.csv"), "there is no data at no/*.csv"),
        (("source", "mine", "--from", "a.xlsx"), "a.xlsx is of no format that is read"),
        (("source", "payments", "--from", "a.csv"), "there is a source 'payments' already"),
        (("source", "Mine", "--from", "a.csv"), "'Mine'"),
        (("source", "mine", "--from", "data"), "data holds files of several kinds"),
    ],
)
def test_what_cannot_be_drafted_is_said(shop: Path, tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    folder = projects.shop(tmp_path)
    for name in ("a.csv", "a.xlsx", "data/x.jsonl"):
        projects.write(folder, name, "id,at\n1,2026-01-05T06:00Z\n")
    done = within(*words, project=folder)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
