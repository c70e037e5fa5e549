"""Which files of a source are there, and which of them are new, renamed or copied: decided without Spark."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.language import Files, Source
from feature_definitions.records import IngestedFile
from spark_jobs.context import Context
from spark_jobs.ingest import landing
from spark_jobs.ingest.globs import matches
from spark_jobs.ingest.landing import Landed, Look, planned, renamings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HEADER = b"x,at\n"
CLICKS = {"x": "int64", "at": "timestamp"}


def there(**contents: str) -> tuple[Landed, ...]:
    """Files by name, each with its content."""
    return tuple(Landed(name, None, "csv", content) for name, content in contents.items())  # type: ignore[arg-type]  # read by nobody


def known(**contents: str) -> dict[str, IngestedFile]:
    return {name: IngestedFile("clicks", name, content, 1, 0, "i1") for name, content in contents.items()}


def after(records: Mapping[str, IngestedFile], found: Look) -> dict[str, IngestedFile]:
    """The records once an ingest did what was planned."""
    read = {f.name: IngestedFile("clicks", f.name, f.sha256, 1, 0, "i2", None if f.came_as == f.name else f.came_as) for f in found.read}
    both = {**records, **read, **{r.path: r for r in renamings(found, read, ingest_id="i2")}}
    return {name: record for name, record in both.items() if record.sha256}


def rows_of(records: Mapping[str, IngestedFile]) -> dict[str, str]:
    """By the name that rows go by, whose they are."""
    return {record.came_as or name: name for name, record in records.items()}


def test_a_file_that_is_known_by_its_name_and_content_is_nothing_new() -> None:
    assert planned(known(a="1"), there(a="1")) == Look()


def test_the_same_content_under_a_new_name_is_the_same_file_if_the_old_name_is_gone() -> None:
    found = planned(known(a="1"), there(b="1"))
    assert (found.read, found.copies) == ((), {})
    assert rows_of(after(known(a="1"), found)) == {"a": "b"}


def test_the_same_content_beside_the_old_name_is_a_copy() -> None:
    found = planned(known(a="1"), there(a="1", b="1"))
    assert [f.name for f in found.read] == ["b"]
    assert found.copies == {"b": "a"}


def test_two_new_files_of_one_content_are_a_file_and_its_copy() -> None:
    assert planned({}, there(b="1", a="1")).copies == {"b": "a"}


def test_of_two_equal_files_the_one_that_is_gone_was_renamed() -> None:
    records = known(a="1", b="1")
    assert rows_of(after(records, planned(records, there(a="1", c="1")))) == {"a": "a", "b": "c"}


def test_files_whose_names_were_swapped_bring_nothing() -> None:
    records = known(a="1", b="2")
    found = planned(records, there(a="2", b="1"))
    assert found.read == ()
    assert rows_of(after(records, found)) == {"a": "b", "b": "a"}


def test_a_log_that_is_rotated_brings_the_new_file_alone() -> None:
    records = known(log="1", log_1="0")
    found = planned(records, there(log="2", log_1="1", log_2="0"))
    assert [(f.name, f.came_as) for f in found.read] == [("log", "log (2)")]
    assert rows_of(after(records, found)) == {"log": "log_1", "log_1": "log_2", "log (2)": "log"}


def test_a_file_that_changed_after_it_was_renamed_replaces_its_rows() -> None:
    records = known(a="1")
    records = after(records, planned(records, there(b="1")))
    (read,) = planned(records, there(b="9")).read
    assert (read.name, read.came_as) == ("b", "a")


def test_a_name_that_a_renamed_file_left_is_free_for_another_file() -> None:
    records = known(a="1")
    records = after(records, planned(records, there(b="1")))
    (read,) = planned(records, there(a="2", b="1")).read
    assert read.came_as == "a (2)"


def test_of_equal_files_each_keeps_its_name_in_another_folder() -> None:
    records = {name: IngestedFile("clicks", name, "1", 1, 0, "i1") for name in ("x/a", "x/b")}
    files = tuple(Landed(name, None, "csv", "1") for name in ("y/b", "y/a"))  # type: ignore[arg-type]  # read by nobody
    assert rows_of(after(records, planned(records, files))) == {"x/a": "y/a", "x/b": "y/b"}


def test_a_file_that_cannot_be_read_now_is_not_gone() -> None:
    assert planned(known(a="1"), there(b="1"), elsewhere=["a"]).renamed == ()


STATES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), max_size=4)


@given(st.lists(STATES, min_size=1, max_size=5))
def test_every_content_counts_as_often_as_it_was_there_at_once(states: list[dict[str, str]]) -> None:
    """Over any history of names and contents: what is there goes by its own rows, each by others, and what only moved is never read."""
    records: dict[str, IngestedFile] = {}
    for now in states:
        found = planned(records, there(**now))
        before = [record.sha256 for record in records.values()]
        for content in {f.sha256 for f in found.read}:
            added = sum(f.sha256 == content for f in found.read)
            assert added == max(0, list(now.values()).count(content) - before.count(content))
        records = after(records, found)
        assert {name: records[name].sha256 for name in now} == now
        assert len(rows_of(records)) == len(records)


# ------------------------------------------------------------------------------------------------------------ what is there


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(HEADER + os.fsencode(name))


def matched(root: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in matches(pattern, root=root))


def test_what_begins_with_a_dot_or_an_underscore_is_no_data(tmp_path: Path) -> None:
    put(tmp_path, "d/a.csv", "d/._a.csv", "d/_b.csv", "d/_temporary/0/c.csv", "d/.spark/c.csv", "d/_day=5/e.csv", "d/.x=1/e.csv")
    assert matched(tmp_path, "d/**/*.csv") == ["d/_day=5/e.csv", "d/a.csv"]


def test_what_is_unfinished_by_its_name_is_no_data(tmp_path: Path) -> None:
    put(tmp_path, "d/a.csv", "d/a.csv~", "d/b.csv.part", "d/c.csv.TMP", "d/e.csv.crdownload", "d/a.csv.crc", "d/_SUCCESS", "d/~$a.csv")
    assert matched(tmp_path, "d/*") == ["d/a.csv"]


@pytest.mark.parametrize("pattern", ["d/_landing/*.csv", "d/_*/*.csv", "d/_landing/a.csv"])
def test_a_glob_that_names_what_is_hidden_means_it(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "d/_landing/a.csv")
    assert matched(tmp_path, pattern) == ["d/_landing/a.csv"]


def test_brackets_are_a_names_own_where_a_folder_is_called_so(tmp_path: Path) -> None:
    root = tmp_path / "p [1] #"
    put(root, "d[2]/a.csv", "d2/b.csv", "e1/c.csv")
    assert matched(root, "d[2]/*.csv") == ["d[2]/a.csv"]
    assert matched(root, "e[1]/*.csv") == ["e1/c.csv"]
    assert matched(root, f"{root}/d[2]/*.csv") == ["d[2]/a.csv"]


class _Known(dict[str, IngestedFile]):
    def files(self, _: str) -> dict[str, IngestedFile]:
        return self


def look(root: Path, before: Mapping[str, IngestedFile] | None = None, *, zone: str = "UTC", **said: Any) -> Look:
    source = Source("clicks", Files("d/**/*.csv", **said), columns=CLICKS, event_timestamp="at", timezone=zone)
    registry: Any = _Known(before or {})
    return landing.look(source, Context(pytest.fail, root, str(root / "lake"), registry, lambda: datetime.now(UTC), print))


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress, partial(pa.compress, codec="zstd", asbytes=True)])
def test_a_file_that_is_compressed_after_it_was_read_is_the_same_file(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    put(tmp_path, "d/a.csv")
    (read,) = look(tmp_path).read
    before = {read.name: IngestedFile("clicks", read.name, read.sha256, 1, 0, "i1")}
    (tmp_path / "d/a.1.csv").write_bytes(packed((tmp_path / "d/a.csv").read_bytes()))
    assert look(tmp_path, before).copies == {"d/a.1.csv": "d/a.csv"}
    (tmp_path / "d/a.csv").unlink()
    found = look(tmp_path, before)
    assert (found.read, [name for name, _ in found.renamed]) == ((), ["d/a.1.csv"])


def test_a_compressed_file_that_was_cut_off_is_known_by_its_bytes(tmp_path: Path) -> None:
    put(tmp_path, "d/a.csv")
    whole = gzip.compress(os.urandom(200))
    for size in (100, 150):
        (tmp_path / f"d/{size}.csv").write_bytes(whole[:size])
    assert len({file.sha256 for file in look(tmp_path).read}) == 3


def test_folders_links_to_nothing_and_unreadable_files_are_refused_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "d/a.csv", "d/locked.csv", "d/part.csv/x.csv")
    (tmp_path / "d/folder.csv").mkdir()
    (tmp_path / "d/link.csv").symlink_to("nowhere")
    os.mkfifo(tmp_path / "d/pipe.csv")
    put(tmp_path, os.fsdecode(b"d/\xff.csv"))
    real = landing._hashed
    monkeypatch.setattr(
        landing, "_hashed", lambda f, s: _raise(PermissionError(13, "Permission denied")) if "lock" in f.name else real(f, s)
    )
    found = look(tmp_path)
    assert [f.name for f in found.read] == ["d/a.csv", "d/part.csv/x.csv"]
    assert found.refused == {
        "d/folder.csv": "d/folder.csv is a folder; files in it are read by Files('d/folder.csv/*')",
        "d/link.csv": "d/link.csv is a link to 'nowhere', which is not there",
        r"d/\udcff.csv": r"d/\udcff.csv has a name that is no UTF-8; rename it",
        "d/pipe.csv": "d/pipe.csv is no file that can be read twice",
        "d/locked.csv": "d/locked.csv cannot be read: Permission denied",
    }


def _raise(error: Exception) -> Any:
    raise error


def test_a_file_that_somebody_writes_while_we_look_is_left_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "d/a.csv", "d/b.csv", "d/gone.csv")

    def written_meanwhile(file: Any, _: Source) -> Landed:
        result = real(file, _)
        if file.name == "d/b.csv":
            with file.path.open("ab") as more:
                more.write(b"1")
        return result

    real = landing._hashed
    monkeypatch.setattr(landing, "_hashed", written_meanwhile)
    found = look(tmp_path)
    assert ([f.name for f in found.read], found.waiting) == (["d/a.csv", "d/gone.csv"], {"d/b.csv": "somebody is writing it"})
    (tmp_path / "d/gone.csv").unlink()
    found = landing.looked_again(found, refused={"d/gone.csv": "it cannot be read", "d/a.csv": "no columns"})
    assert (found.read, found.refused) == ((), {"d/a.csv": "no columns"})
    assert found.waiting == {"d/b.csv": "somebody is writing it", "d/gone.csv": "it went away"}


def test_files_wait_for_the_marker_that_their_source_asks_for(tmp_path: Path) -> None:
    put(tmp_path, "d/whole/a.csv", "d/whole/_SUCCESS", "d/whole/day=5/b.csv", "d/going on/c.csv", "d/whole/other/e.csv")
    found = look(tmp_path, complete="_SUCCESS")
    assert [f.name for f in found.read] == ["d/whole/a.csv", "d/whole/day=5/b.csv"]
    assert found.waiting == dict.fromkeys(["d/going on/c.csv", "d/whole/other/e.csv"], "there is no _SUCCESS beside it yet")


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files were written long ago."""
    monkeypatch.setattr(landing, "_SETTLED", 0)


def hashed(found: Look) -> dict[str, IngestedFile]:
    """The records of what a look found."""
    return {f.name: IngestedFile("clicks", f.name, f.sha256, 1, 0, "i1", tag=f.tag) for f in found.read}


def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    read, real = list[str](), landing._hashed
    monkeypatch.setattr(landing, "_hashed", lambda file, wanted: read.append(file.name) or real(file, wanted))
    return read


@pytest.mark.usefixtures("old")
def test_a_file_that_nobody_touched_is_not_read_to_find_that_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "d/a.csv", "d/b.csv")
    before, read = hashed(look(tmp_path)), names(monkeypatch)
    put(tmp_path, "d/c.csv")
    assert ([f.name for f in look(tmp_path, before).read], read) == (["d/c.csv"], ["d/c.csv"])


@pytest.mark.usefixtures("old")
def test_a_file_that_is_rewritten_in_its_place_with_its_size_and_times_is_another_one(tmp_path: Path) -> None:
    put(tmp_path, "d/a.csv")
    before, file = hashed(look(tmp_path)), tmp_path / "d/a.csv"
    was, text = file.stat(), file.read_bytes()
    changed_at = was.st_ctime_ns
    while changed_at == was.st_ctime_ns:  # a file system's times are some milliseconds apart
        file.write_bytes(b"2" * len(text))
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
        changed_at = file.stat().st_ctime_ns
    now = file.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (was.st_size, was.st_mtime_ns, was.st_ino)
    assert [f.name for f in look(tmp_path, before).read] == ["d/a.csv"]


@pytest.mark.usefixtures("old")
def test_a_file_that_is_read_otherwise_by_now_is_another_one(tmp_path: Path) -> None:
    put(tmp_path, "d/a.csv")
    assert [f.name for f in look(tmp_path, hashed(look(tmp_path)), zone="Europe/Berlin").read] == ["d/a.csv"]


def test_a_file_that_was_written_just_now_is_known_by_its_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "d/a.csv")
    before = hashed(look(tmp_path))
    assert before["d/a.csv"].tag is None
    monkeypatch.setattr(landing, "_SETTLED", 0)
    (later,) = look(tmp_path, before).tagged
    monkeypatch.undo()
    read = names(monkeypatch)
    assert look(tmp_path, {"d/a.csv": later}) == Look()  # who knows whether it was written twice within a moment
    assert read == ["d/a.csv"]
