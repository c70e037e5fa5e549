"""Which files a glob means, on this machine and on S3, by one rule: nothing hidden, nothing unfinished, no folder."""

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from feature_definitions.layout import S3
from lake import storage
from lake.storage import Object
from spark_jobs.ingest.whereabouts import Place, Remote, is_remote

UNFINISHED = (".crc", ".crdownload", ".download", ".filepart", ".part", ".partial", ".swp", ".temp", ".tmp", "~")
"""How names of files end that are no data: checksums, downloads that go on, what editors keep beside a file."""
_MARK = "_$folder$"
"""How names end by which Hadoop once marked folders on S3."""
_WILD = re.compile(r"[*?[]")


class Matched(NamedTuple):
    """What globs mean: the files by glob, in order of their names, and on S3 all that was listed, and what is named but is a folder."""

    by_glob: Mapping[str, Sequence[Place]]
    listed: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()

    @property
    def files(self) -> list[Place]:
        """All files, each once."""
        return sorted({file for files in self.by_glob.values() for file in files}, key=str)


def matched(globs: Iterable[str], *, root: Path) -> Matched:
    """The files that globs mean; what is not on S3 lies below the project's root, or is said whole. Raises S3Fault."""
    said = tuple(dict.fromkeys(globs))
    here: dict[str, Sequence[Place]] = {each: sorted(matches(each, root=root)) for each in said if not is_remote(each)}
    there = _on_s3([each for each in said if is_remote(each)])
    return there._replace(by_glob=here | dict(there.by_glob))


def below(folder: str, pattern: str) -> list[Place]:
    """The files that a glob means below a folder, whatever signs the folder's own path has."""
    if not is_remote(folder):
        return sorted(matches(pattern, root=Path(folder)))
    glob = Glob(folder, tuple(pattern.split("/")))
    return sorted(file for file in _files(_listed([glob])) if glob.means(file.path))


def at(path: str) -> Place | None:
    """The file at a path, on this machine or on S3; None if there is none."""
    if not is_remote(path):
        return Path(path) if Path(path).is_file() else None
    found = storage.object_at(path)
    return None if found is None else next(iter(_files([found])), None)


def is_data(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path below a glob's folder is data, by its names alone.

    A name that begins with `.` or `_` is none, unless the glob itself has one that does; a folder like `_day=5` holds data.
    """
    asked = {part[0] for part in pattern if part[0] in "._"}
    folders, last = parts[:-1], parts[-1]
    hidden = any(name[0] in "._" and name[0] not in asked and not (name[0] == "_" and "=" in name) for name in folders)
    return not (hidden or (last[0] in "._" and last[0] not in asked) or last.startswith("~$") or last.lower().endswith(UNFINISHED))


# ------------------------------------------------------------------------------------------------------------- on this machine


def matches(pattern: str, *, root: Path) -> Iterator[Path]:
    """The files that a glob means on this machine, and no folder that holds other files of it.

    Brackets are a name's own where a file or a folder is called so.
    """
    base, rest = _base(pattern, root)
    if not rest:
        yield from [base] if os.path.lexists(base) else []
        return
    paths = [path for path in _paths(base, rest) if is_data(path.relative_to(base).parts, rest)]
    holders = {parent for path in paths for parent in path.parents}
    names_files = "." in rest[-1]
    yield from (path for path in paths if not path.is_dir() or (names_files and path not in holders))


def no_data(pattern: str, *, root: Path) -> Iterator[Path]:
    """The files on this machine that a glob would mean, if their names were those of data."""
    base, rest = _base(pattern, root)
    yield from (path for path in _paths(base, rest) if not is_data(path.relative_to(base).parts, rest) and path.is_file())


def unfollowed(pattern: str, *, root: Path) -> Iterator[Path]:
    """The links to folders on this machine that `**` in a glob does not follow, but for those that lead back above themselves."""
    base, rest = _base(pattern, root)
    below = base.glob("/".join((*rest[: rest.index("**")], "**/*"))) if "**" in rest else ()
    yield from (path for path in below if path.is_symlink() and path.is_dir() and not path.parent.resolve().is_relative_to(path.resolve()))


def _paths(base: Path, rest: tuple[str, ...]) -> Iterator[Path]:
    """What a glob means below a folder, data or not; `**` at its end means files at any depth, as on S3."""
    yield from base.glob("/".join((*rest, "*") if rest[-1] == "**" else rest)) if rest else ()


def _base(pattern: str, root: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder below which a glob looks, and the rest of the glob."""
    said = Path(pattern)
    base, parts = (Path(said.anchor), said.parts[1:]) if said.is_absolute() else (root, said.parts)
    for place, part in enumerate(parts):
        if _WILD.search(part) and not ("[" in part and os.path.lexists(base / part)):
            return base, tuple(parts[place:])
        base = base / part
    return base, ()


# ----------------------------------------------------------------------------------------------------------------------- on S3


@dataclass(frozen=True, slots=True)
class Glob:
    """A glob on S3: the folder below which it looks, and the names that follow; without a wildcard it is a path."""

    folder: str
    names: tuple[str, ...]

    @property
    def begin(self) -> str:
        """The longest text with which all paths begin that it means."""
        first = _WILD.split(self.names[0], maxsplit=1)[0] if self.names else ""
        return f"{self.folder}/{first}"

    @property
    def is_flat(self) -> bool:
        """Whether all that it means lies right in its folder."""
        return len(self.names) == 1 and self.names[0] != "**"

    def means(self, path: str) -> bool:
        """Whether it means a path."""
        if not self.names:
            return path == self.folder
        if not path.startswith(f"{self.folder}/"):
            return False
        parts = path.removeprefix(f"{self.folder}/").split("/")
        return _fits(parts, self.names) and is_data(parts, self.names)

    def among(self, paths: Collection[str]) -> "Glob":
        """It again, with brackets that stand for themselves where a file or a folder among these paths is called so."""
        if not self.names or ("[" in self.names[0] and not _holds(paths, f"{self.folder}/{self.names[0]}")):
            return self
        is_plain = "[" in self.names[0] or not _WILD.search(self.names[0])
        return Glob(f"{self.folder}/{self.names[0]}", self.names[1:]).among(paths) if is_plain else self


def _holds(paths: Collection[str], path: str) -> bool:
    """Whether a file or a folder of that name is among paths."""
    return path in paths or any(each.startswith(f"{path}/") for each in paths)


def on_s3(said: str) -> Glob:
    """A glob on S3, as a definition says it."""
    bucket, *parts = [part for part in said.removeprefix(S3).split("/") if part not in ("", ".")]
    first = next((place for place, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return Glob("/".join((f"{S3}{bucket}", *parts[:first])), tuple(parts[first:]))


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether names are such as a pattern means; `**` is any number of folders."""
    if not (names and pattern):
        return not (names or pattern)
    if pattern[0] == "**":
        return any(_fits(names[place:], pattern[1:] or ("*",)) for place in range(len(names)))
    return _regex(pattern[0]).match(names[0]) is not None and _fits(names[1:], pattern[1:])


@lru_cache(maxsize=256)
def _regex(pattern: str) -> "re.Pattern[str]":
    return re.compile(fnmatch.translate(pattern))


def _on_s3(said: Sequence[str]) -> Matched:
    """What globs on S3 mean. Each place is listed once, a thousand objects a request, and no object is asked for on its own.

    What lies right in a folder is listed alone where no glob means more; else all that begins with the longest text without a wildcard.
    """
    asked = {each: on_s3(each) for each in said}
    objects = {each.path: each for each in _listed([glob for glob in asked.values() if glob.names])}
    exact = {each: at(glob.folder) for each, glob in asked.items() if not glob.names}
    files = _files(objects.values())
    found: dict[str, Sequence[Place]] = {
        each: sorted(file for file in files if meant.means(file.path))
        for each, glob in asked.items()
        if glob.names
        for meant in (glob.among(objects),)
    }
    found |= {each: [] if held is None else [held] for each, held in exact.items()}
    folders = tuple(asked[each].folder for each, held in exact.items() if held is None and storage.exists(asked[each].folder))
    return Matched(found, frozenset(objects), folders)


def _listed(globs: Sequence[Glob]) -> Iterator[Object]:
    deep = sorted({glob.begin for glob in globs if not glob.is_flat})
    begins = tuple(text for place, text in enumerate(deep) if not text.startswith(tuple(deep[:place])))
    for text in begins:
        yield from storage.beginning(text)
    for folder in sorted({glob.folder for glob in globs if glob.is_flat}):
        if not f"{folder}/".startswith(begins):
            yield from storage.objects_in(folder)


def _files(objects: Iterable[Object]) -> list[Remote]:
    return [Remote(each.path, each.size, each.tag) for each in objects if not _is_mark(each)]


def _is_mark(held: Object) -> bool:
    """Whether an object only says that there is a folder, as other programs leave them."""
    return held.path.endswith(_MARK) or (held.size == 0 and "." not in held.path.rpartition("/")[2])
