"""Which files of a source are there, and which of them are new, changed, renamed or copied; what is no data and what is not whole yet.

The rows of a file go by the name under which it came. A file that was renamed or moved keeps that, so its rows need no change.
"""

import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from feature_definitions import layout
from feature_definitions.language import Files, Source
from feature_definitions.records import IngestedFile
from lake.storage import Overwritten
from spark_jobs.context import Context
from spark_jobs.ingest import folders, globs, opened, parsing, whereabouts
from spark_jobs.ingest.globs import Matched
from spark_jobs.ingest.parsing import Shape
from spark_jobs.ingest.whereabouts import Place, Remote

if TYPE_CHECKING:
    from io import BufferedIOBase

_AT_ONCE = 8
"""So many files on S3 are read at once to be hashed."""
_SETTLED = 60 * 10**9
"""A file of this machine that somebody wrote, renamed or touched within so many nanoseconds is known by its content alone.

Two changes may have one time where a file system's times are coarse (2 s), its clock is not ours, or a mapped page is written (30 s).
"""
_MOVING, _AWAY = "somebody is writing it", "it went away"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source: its name in records, where it lies, its format."""

    name: str
    path: Place
    format: str


@dataclass(frozen=True, slots=True)
class Landed:
    """A file that is there to be ingested: its name in records, where it lies, its format, SHA-256, and size and time when it was hashed.

    Its rows are known as those of `came_as`, the name under which it came; `mark` tells whether somebody wrote it since. `tag` tells of a
    file that it has the same content, and is read in the same way, without reading it; None: nothing does.
    """

    name: str
    path: Place
    format: str
    sha256: str
    mark: tuple[int, int] = (0, 0)
    came_as: str = ""
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What an ingest finds: the files to read, the records of those that only have another name now, and which files are copies of which.

    `tagged` are records of files that are as they were but for their tags, of which they have the new ones. `refused` cannot be read, with
    the reason by name; `waiting` are left for the next time, with the reason.
    """

    read: tuple[Landed, ...] = ()
    renamed: tuple[tuple[str, IngestedFile], ...] = ()
    tagged: tuple[IngestedFile, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    is_empty: bool = False


def look(source: Source, context: Context, *, again: Collection[str] = ()) -> Look:
    """What is new, changed or renamed among the files of a source that are there now; Files are found below the project's root.

    Those whose rows go by the names of `again` count as changed.
    """
    found, refused, waiting = _found(source, context)
    known, landed, unknown = context.registry.files(source.name), list[Landed](), {*refused, *waiting}
    for each, hashed in _all_hashed(found, source, known):
        match hashed:
            case Landed():
                landed.append(hashed)
            case FileNotFoundError() | Overwritten():
                waiting[each.name] = _AWAY if isinstance(hashed, FileNotFoundError) else _MOVING
            case OSError():
                refused[each.name] = f"{each.name} cannot be read: {hashed.strerror or hashed}"
                unknown.add(each.name)
    still = {file.name for file in landed if isinstance(file.path, Path) and has_moved(file)}
    waiting |= dict.fromkeys(still, _MOVING)
    there = tuple(file for file in landed if file.name not in still)
    plan = planned(known, there, elsewhere=unknown, again=again)
    return replace(plan, refused=refused, waiting=waiting, is_empty=not (found or refused or waiting))


def looked_again(found: Look, *, refused: Mapping[str, str]) -> Look:
    """What is left of a look once its files were read: without those that were refused, by what their rows go by, or written meanwhile.

    What was read of a file on S3 is what was hashed; only one that was refused may have been written meanwhile.
    """
    doubtful = [f for f in found.read if isinstance(f.path, Path) or f.came_as in refused]
    moved = {f.name: _MOVING if f.path.exists() else _AWAY for f in doubtful if has_moved(f)}
    bad = {f.name: refused[f.came_as] for f in found.read if f.came_as in refused and f.name not in moved}
    read = tuple(f for f in found.read if f.name not in moved and f.name not in bad)
    return replace(found, read=read, refused={**found.refused, **bad}, waiting={**found.waiting, **moved})


def has_moved(file: Landed) -> bool:
    """Whether a file is gone, or another one than when it was hashed, by its size and time, or by its tag: somebody writes it."""
    if isinstance(file.path, Remote):
        return not file.path.is_same()
    try:
        return _mark(file.path.stat()) != file.mark
    except OSError:
        return True


def _mark(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _all_hashed(found: Sequence[Found], source: Source, known: Mapping[str, IngestedFile]) -> Iterable[tuple[Found, Landed | OSError]]:
    """Each file hashed, or why it cannot be; of those on S3, where each waits for the network, several at once."""
    if not any(isinstance(each.path, Remote) for each in found):
        yield from ((each, _tried(each, source, known)) for each in found)
        return
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        yield from zip(found, pool.map(lambda each: _tried(each, source, known), found), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _tried(found: Found, source: Source, known: Mapping[str, IngestedFile]) -> Landed | OSError:
    """A file hashed, or why it cannot be; one that is known by its tag is not read."""
    before, wanted = known.get(found.name), folders.at(parsing.shape(source, found.format), found.name)
    try:
        now = _told(found.path, found.path.stat() if isinstance(found.path, Path) else None, wanted)
        if before is not None and now.tag is not None and before.tag == now.tag:
            return Landed(found.name, found.path, found.format, before.sha256, now.mark, tag=now.tag)
        return _hashed(found, wanted)
    except OSError as error:
        return error


def _hashed(found: Found, wanted: Shape) -> Landed:
    """A file known by what it says, compressed or not: so one that was compressed since is the same; of a damaged one by its bytes."""
    with found.path.open("rb") as file:
        now = _told(found.path, None if isinstance(found.path, Remote) else os.fstat(file.fileno()), wanted)
        try:
            content = parsing.sha256(cast("BufferedIOBase", opened.content(file)), wanted)
        except opened.UNREADABLE:
            file.seek(0)
            content = parsing.sha256(file, wanted)
        return Landed(found.name, found.path, found.format, content, now.mark, tag=now.tag)


class _Told(NamedTuple):
    """What is told of a file without reading it."""

    mark: tuple[int, int]
    tag: str | None


def _told(path: Place, found: os.stat_result | None, wanted: Shape) -> _Told:
    """The mark of a file, and what tells of it that its content, and how it is read, are the same.

    Of a file of this machine that is the time of its last change of any kind, too, which nobody can set back: one that is written in its
    place, with the same size and a time as before, has another.
    """
    if isinstance(path, Remote):
        return _Told((path.size, 0), None if path.tag is None else _in_short(f"{path.tag} {path.size} {wanted!r}"))
    if found is None or time.time_ns() - max(found.st_ctime_ns, found.st_mtime_ns) < _SETTLED:
        return _Told((0, 0) if found is None else _mark(found), None)
    return _Told(_mark(found), _in_short(f"{_mark(found)} {found.st_ctime_ns} {found.st_ino} {wanted!r}"))


def _in_short(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:32]


# ----------------------------------------------------------------------------------------------------- which is which: pure


def planned(
    known: Mapping[str, IngestedFile], landed: Sequence[Landed], *, elsewhere: Iterable[str] = (), again: Collection[str] = ()
) -> Look:
    """What to do about the files that are there, given those whose rows are in the source.

    A file that is known no more by its name, but whose content comes under a name that is new to this content, was renamed. `elsewhere`
    are names that are there too, but say nothing of their content now. Files whose rows go by the names of `again` are read again.
    """
    same = {f.name for f in landed if f.name in known and known[f.name].sha256 == f.sha256}
    repeated = {name for name in same if (known[name].came_as or name) in again}
    others = sorted((f for f in landed if f.name not in same), key=lambda f: f.name)
    renamed = _renamed([known[name] for name in sorted(known) if name not in {*same, *elsewhere}], others)
    moved = {new for new, _ in renamed}
    left = {record.path for _, record in renamed}
    tags = {f.name: f.tag for f in landed}
    taken = {record.came_as or record.path for record in known.values()}
    read = list[Landed]()
    for file in [*others, *(f for f in landed if f.name in repeated)]:
        if file.name not in moved:
            read.append(replace(file, came_as=_came_as(file.name, known if file.name not in left else {}, taken)))
            taken.add(read[-1].came_as)
    there = [f for f in landed if f.name in same or f.name in moved]
    tagged = tuple(replace(known[name], tag=tags[name]) for name in sorted(same - repeated) if tags[name] not in (None, known[name].tag))
    renamed = tuple((name, replace(record, tag=tags[name])) for name, record in renamed)
    return Look(tuple(read), renamed, tagged, _copies([f for f in read if f.name not in same], there))


def _renamed(free: Sequence[IngestedFile], others: Sequence[Landed]) -> tuple[tuple[str, IngestedFile], ...]:
    """Each new name with the record of the file that has it now; of equal files those first that kept their name in another folder."""
    by_content: dict[str, list[IngestedFile]] = {}
    for record in free:
        by_content.setdefault(record.sha256, []).append(record)
    found: list[tuple[str, IngestedFile]] = []
    waiting = [file for file in others if file.sha256 in by_content]
    for alike in (_last_part, lambda _: ""):
        for file in list(waiting):
            mine = by_content[file.sha256]
            match = next((r for r in mine if alike(r.path) == alike(file.name)), None)
            if match is not None:
                mine.remove(match)
                waiting.remove(file)
                found.append((file.name, match))
    return tuple(sorted(found, key=lambda renamed: renamed[0]))


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


def _came_as(name: str, known: Mapping[str, IngestedFile], taken: set[str]) -> str:
    """By which name the rows of a file to be read go: that of the rows which they replace, else its own, numbered if others have it."""
    if name in known:
        return known[name].came_as or name
    return name if name not in taken else next(n for n in (f"{name} ({i})" for i in count(2)) if n not in taken)


def _copies(read: Sequence[Landed], others: Sequence[Landed]) -> dict[str, str]:
    """Of each file to be read that another one there is equal to: which one."""
    first: dict[str, str] = {}
    for file in others:
        first.setdefault(file.sha256, file.name)
    copies: dict[str, str] = {}
    for file in read:
        if first.setdefault(file.sha256, file.name) != file.name:
            copies[file.name] = first[file.sha256]
    return copies


def renamings(found: Look, brought: Iterable[str], *, ingest_id: str) -> tuple[IngestedFile, ...]:
    """The records of files that only have another name now; under an old name that no file has an empty one stays.

    `brought` are the names that the same ingest records anew.
    """
    now = tuple(replace(record, path=name, came_as=record.came_as or record.path, ingest_id=ingest_id) for name, record in found.renamed)
    names = {*brought, *(record.path for record in now)}
    gone = (replace(r, sha256="", rows=0, quarantined=0, came_as=None, tag=None, ingest_id=ingest_id) for _, r in found.renamed)
    tagged = (replace(record, ingest_id=ingest_id) for record in found.tagged)
    return (*now, *tagged, *(record for record in gone if record.path not in names))


# ------------------------------------------------------------------------------------------------------------ what is there


def _found(source: Source, context: Context) -> tuple[list[Found], dict[str, str], dict[str, str]]:
    """The files of a source by name; what cannot be one, and what is not whole yet, each with the reason."""
    found: dict[str, Found] = {}
    refused: dict[str, str] = {}
    waiting: dict[str, str] = {}
    if isinstance(source.at, Files):
        matched = globs.matched(source.at.paths, root=context.root)
        refused |= {folder: _a_folder(folder) for folder in matched.folders}
        marked = _Marked(source.at.complete, matched)
        for path in matched.files:
            name = whereabouts.named(path, context.root)
            if (shown := name.encode(errors="backslashreplace").decode()) != name:
                refused[shown] = f"{shown} has a name that is no UTF-8; rename it"
            elif isinstance(path, Path) and (reason := _refusal(path, name)):
                refused[name] = reason
            elif source.at.complete is not None and not marked.is_complete(whereabouts.folder(path)):
                waiting[name] = f"there is no {source.at.complete} beside it yet"
            else:
                found[name] = Found(name, path, source.at.format)
    for path in globs.below(layout.landing_folder(context.lake, source.name), "*.parquet"):
        found[f"written/{path.name}"] = Found(f"written/{path.name}", path, parsing.FRAME)
    return [found[name] for name in sorted(found)], refused, waiting


def _refusal(path: Path, name: str) -> str | None:
    """Why something that a glob matches cannot be a file; None: it can."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"{name} is a link to {str(path.readlink())!r}, which is not there" if path.is_symlink() else None
    except OSError as error:
        return f"{name} cannot be read: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        return _a_folder(name)
    return None if stat.S_ISREG(mode) else f"{name} is no file that can be read twice"


def _a_folder(name: str) -> str:
    return f"{name} is a folder; files in it are read by Files({f'{name}/*'!r})"


class _Marked:
    """Which folders hold the marker that says that their files are whole; on S3 a folder is asked for it once, if it was not listed."""

    def __init__(self, marker: str | None, matched: Matched) -> None:
        self._marker, self._listed = marker, matched.listed
        self._known: dict[str, bool] = {}

    def is_complete(self, folder: str) -> bool:
        """Whether a folder holds the marker, or the folder above the `key=value` ones that it lies in."""
        while not self._holds(folder):
            above, _, name = folder.rpartition("/")
            if "=" not in name:
                return False
            folder = above
        return True

    def _holds(self, folder: str) -> bool:
        if folder not in self._known:
            path = f"{folder}/{self._marker}"
            self._known[folder] = path in self._listed or whereabouts.exists(path)
        return self._known[folder]
