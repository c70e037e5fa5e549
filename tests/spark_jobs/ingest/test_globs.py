"""Which files a glob means: the same on this machine and on S3, where they are listed and not asked for one by one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import storage
from lake.s3 import S3Fault
from lake.storage import Overwritten
from spark_jobs.ingest import globs, whereabouts
from spark_jobs.ingest.globs import on_s3
from tests.s3_proxy import Counting, counting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.s3 import Server

NAMES = (
    "in/a b.csv", "in/ü.csv", "in/x#y.csv", "in/a%20b.csv", "in/p+q.csv", "in/q?.csv", "in/[1].csv", "in/1.csv",
    "in/[2]/h.csv", "in/2/h.csv",
    "in/u.csv.part",
    "in/_b.csv", "in/.c.csv", "in/~$d.csv", "in/_SUCCESS", "in/.h/x.csv", "in/_d=1/z.csv", "in/date=2026-01-01/e.csv",
    "in/date=2026-01-02/f.csv", "in/date=2026-02-01/hour=3/g.csv", "in/date=2026-02-01/_SUCCESS", "in.csv", "other/i.csv",
)  # fmt: skip
GLOBS = (
    "in/*.csv", "in/**/*.csv", "in/**/*", "in/**", "in/*", "in/a*.csv", "in/?.csv", "in/[1].csv", "in/[2]/*", "in/[2]/h.csv",
    "in/[!1]*.csv", "in/date=*/*.csv",
    "in/date=2026-0[12]-*/*", "in/date=2026-02-*/**/*.csv", "in/_*.csv", "in/_d=*/*", "in/x#y.csv", "in/none.csv", "*.csv", "**/*.csv",
    "*/*.csv", "in/date=2026-01-01/*",
)  # fmt: skip


@pytest.fixture(scope="module")
def proxy(moto: Server) -> Iterator[Counting]:
    """What this module's requests go through."""
    with counting(moto) as between, pytest.MonkeyPatch.context() as environment:
        for name, value in between.environment.items():
            environment.setenv(name, value)
        yield between


@pytest.fixture(scope="module")
def both(moto: Server, proxy: Counting, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same files in a folder and in a bucket, which holds marks of folders besides."""
    root, bucket, client = tmp_path_factory.mktemp("globs"), moto.bucket("globs"), moto.client()
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
        client.put_object(Bucket="globs", Key=name, Body=name.encode())
    for name in ("in/", "in/date=2026-01-01/", "in/empty/", "in/old_$folder$"):
        client.put_object(Bucket="globs", Key=name, Body=b"")
    return root, bucket


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_means_the_same_files_on_s3_as_on_this_machine(both: tuple[Path, str], proxy: Counting, pattern: str) -> None:
    root, bucket = both
    proxy.clear()
    there = globs.matched([f"{bucket}/{pattern}"], root=root)
    assert len(proxy.requests) <= 3
    here = [file for file in globs.matched([pattern], root=root).files if file.is_file()]
    assert [str(file).removeprefix(f"{bucket}/") for file in there.files] == sorted(str(file.relative_to(root)) for file in here)  # type: ignore[union-attr]
    assert all(file.open("rb").read().decode() == str(file).removeprefix(f"{bucket}/") for file in there.files)


def test_several_globs_of_one_place_list_it_once(both: tuple[Path, str], proxy: Counting) -> None:
    root, bucket = both
    proxy.clear()
    globs.matched([f"{bucket}/in/date=*/*.csv", f"{bucket}/in/date=2026-01-*/*.csv", f"{bucket}/in/date=*/*.csv.gz"], root=root)
    assert [one.query["prefix"] for one in proxy.requests] == ["in/"]


def test_a_path_that_is_a_folder_on_s3_is_told_as_one(both: tuple[Path, str]) -> None:
    root, bucket = both
    assert globs.matched([f"{bucket}/in", f"{bucket}/nothing"], root=root).folders == (f"{bucket}/in",)


def test_a_bucket_that_is_not_there_is_named(proxy: Counting, tmp_path: Path) -> None:
    with pytest.raises(S3Fault, match="there is no bucket nowhere"):
        globs.matched(["s3a://nowhere/in/*.csv"], root=tmp_path)


@pytest.mark.parametrize("text", ["in/a", "in/date=2026-0", "in/date=2026-01-01", "in/", "i", "", "in/0", "in/1", "in/p+", "in/A", "o"])
def test_what_begins_with_a_text_is_listed_and_nothing_else(both: tuple[Path, str], text: str) -> None:
    found = {one.path for one in storage.beginning(f"{both[1]}/{text}") if one.size}
    assert found == {f"{both[1]}/{name}" for name in NAMES if name.startswith(text)}


@given(st.lists(st.text("aAzZ09.-_=~ü", min_size=1, max_size=4), min_size=2, max_size=8), st.text("aAzZ09.-_=ü", min_size=1, max_size=3))
def test_a_listing_that_begins_late_misses_nothing(names: list[str], begin: str) -> None:
    """By the order in which S3 lists: that of the bytes."""
    after = storage._before(begin)
    assert all(after.encode() < name.encode() for name in names if name.startswith(begin))
    assert after.encode() < begin.encode()


@pytest.mark.parametrize(
    ("said", "begin"),
    [
        ("s3a://b/in/*.csv", "s3a://b/in/"),
        ("s3a://b/in/2026-*/x.csv", "s3a://b/in/2026-"),
        ("s3a://b//in/./**/*.csv", "s3a://b/in/"),
        ("s3a://b/in/date=[0-9]*/x", "s3a://b/in/date="),
        ("s3a://b/**/*", "s3a://b/"),
    ],
)
def test_a_listing_begins_with_the_longest_text_without_a_wildcard(said: str, begin: str) -> None:
    assert on_s3(said).begin == begin


@pytest.fixture
def large(moto: Server, proxy: Counting) -> Iterator[tuple[whereabouts.Remote, bytes]]:
    """A file of three parts on S3."""
    content = bytes(range(256)) * (9 * 2**12) + b"end"
    moto.client().put_object(Bucket=moto.bucket("large").removeprefix("s3a://"), Key="x.bin", Body=content)
    whereabouts._part.cache_clear()
    found = globs.at("s3a://large/x.bin")
    assert found is not None
    yield found, content
    moto.client().delete_object(Bucket="large", Key="x.bin")


def test_a_file_on_s3_is_read_in_parts_from_any_place_on(proxy: Counting, large: tuple[whereabouts.Remote, bytes]) -> None:
    file, content = large
    proxy.clear()
    with file.open("rb") as held:
        assert held.read() == content
        parts = [f"bytes={first}-{end - 1}" for first, end in pairwise((0, 2**22, 2**23, len(content)))]
        assert [one.headers["range"] for one in proxy.requests] == parts
        assert held.seek(-3, 2) == len(content) - 3
        assert held.read() == b"end"
        held.seek(2**22 - 2)
        assert held.read(4) == content[2**22 - 2 : 2**22 + 2]
    assert len(proxy.requests) == 3


def test_a_file_that_is_written_anew_is_never_read_half_and_half(moto: Server, large: tuple[whereabouts.Remote, bytes]) -> None:
    file, content = large
    with file.open("rb") as held:
        assert held.read(10) == content[:10]
        moto.client().put_object(Bucket="large", Key="x.bin", Body=content[::-1])
        with pytest.raises(Overwritten, match="it was written anew meanwhile"):
            held.read()
    assert not file.is_same()
    assert file.exists()


def test_a_file_that_is_gone_is_not_there(moto: Server, large: tuple[whereabouts.Remote, bytes]) -> None:
    file, _ = large
    moto.client().delete_object(Bucket="large", Key="x.bin")
    with pytest.raises(FileNotFoundError, match="it is there no more"), file.open("rb") as held:
        held.read()
    assert not file.exists()
