"""`init`, `new` and `check`, as their users and scripts know them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples import starter
from tests import projects
from tests.projects import within

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_check_counts_what_is_defined(fresh: Path) -> None:
    expected = {"mistakes": [], "entities": 1, "sources": 1, "groups": 1, "services": 1, "training_sets": 0, "connections": []}
    assert within("check", "--json", project=fresh).json == expected
    assert within("check", project=fresh).out == "fine: 1 entity, 1 source, 1 group, 1 service, 0 training sets\n"


def test_check_with_data_names_the_files_that_do_not_fit_and_what_to_write(tmp_path: Path) -> None:
    columns = "{'id': 'string', 'n': 'int64'}"
    text = f"from feature_definitions import *\nx = Source('x', Files('x.csv'), columns={columns}, shape='static', id='id')\n"
    projects.make(tmp_path, files={"catalog/x.py": text, "x.csv": "id;n\na;1\n"})
    done = within("check", "--data", project=tmp_path)
    said = "x.csv has no column 'id'. It has: id;n. Source x needs it. `;` separates the columns: write csv=Csv(delimiter=\";\")"
    assert (done.code, f"x: {said}" in done.err) == (2, True)
    found = within("check", "--data", "--json", project=tmp_path).json["data"]
    assert {"source": "x", "file": "x.csv", "message": said} in found
    (tmp_path / "x.csv").write_text("id,n\na,1\n")
    assert "x" not in {each["source"] for each in within("check", "--data", "--json", project=tmp_path).json["data"]}


def test_init_refuses_a_folder_that_holds_something_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = within("init", tmp_path)
    assert done.code == 2
    assert "is not empty; name a new folder" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_makes_or_stops_something_says_so_as_json_too(tmp_path: Path) -> None:
    made = within("init", tmp_path / "shop", "--json")
    assert made.json == {"project": str(tmp_path / "shop"), "next": starter.NEXT}
    assert within("down", "--json", project=tmp_path / "shop").json == {"stopped": False}
    files = within("new", "visits", "--json", project=tmp_path / "shop").json
    assert files == {"group": f"{tmp_path}/shop/catalog/visits.py", "test": f"{tmp_path}/shop/tests/test_visits.py"}


BROKEN = {
    "no python": ("def x(:\n", "this is not Python: invalid syntax"),
    "raises": ('raise RuntimeError("boom")\n', "RuntimeError: boom"),
    "exits": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "misses a package": ("import nothing_of_the_kind\n", "No module named 'nothing_of_the_kind'"),
    "naive times": (
        "from feature_definitions import *\nx = Source('x', Files('x.csv', 'csv'), columns={'at': 'timestamp'}, event_timestamp='at')\n",
        "timezone",
    ),
    "of later": ("from feature_definitions import TransformGroup\nt = TransformGroup('t')\n", "TransformGroup"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_catalog_file_is_named_with_file_and_line_by_every_command(tmp_path: Path, kind: str) -> None:
    text, sentence = BROKEN[kind]
    projects.make(tmp_path, files={"catalog/broken.py": text})
    for verb in (("check",), ("status", "--json"), ("materialize",), ("sync",)):
        done = within(*verb, project=tmp_path)
        assert (done.code, done.out) == (2, ""), verb
        assert re.search(rf"catalog/broken\.py:[12]: .*{re.escape(sentence)}", done.err), verb


def test_check_as_json_lists_every_mistake_with_file_line_and_message(tmp_path: Path) -> None:
    catalog = projects.CATALOG.replace('"sum", "amount"', '"sum", "amnt"')
    projects.make(tmp_path, catalog=catalog, files={"catalog/broken.py": "def x(:\n"})
    done = within("check", "--json", project=tmp_path)
    assert done.code == 2
    first, second = done.json["mistakes"]
    assert (Path(first["file"]).name, first["line"], first["message"]) == ("broken.py", 1, "this is not Python: invalid syntax")
    line = next(i for i, text in enumerate(catalog.splitlines(), 1) if '"amnt"' in text)
    assert (Path(second["file"]).name, second["line"]) == ("shop.py", line)
    assert "spend.paid: there is no column 'amnt'. payments has: amount, arrived" in second["message"]


def test_what_new_writes_passes_its_own_test(spark: SparkSession, tmp_path: Path) -> None:
    folder = starter.make(tmp_path / "shop")
    done = within("new", "visits", project=folder)
    assert done.code == 0
    assert f"wrote {folder}/catalog/visits.py" in done.out
    assert within("check", "--json", project=folder).json["groups"] == 2
    written = runpy.run_path(str(folder / "tests" / "test_visits.py"))
    written["test_visits_holds_the_events_of_its_windows"](tmp_path)
    again = within("new", "visits", project=folder)
    assert (again.code, "already" in again.err) == (2, True)
