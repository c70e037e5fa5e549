"""Which files of a source are there, and which of them are new, changed, renamed or copied; what is no data and what is not whole yet.

The rows of a file go by the name under which it came. A file that was renamed or moved keeps that, so its rows need no change.
"""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from feature_definitions import layout
from feature_definitions.language import Files, Source
from feature_definitions.records import IngestedFile
from lake import storage
from spark_jobs.context import Context
from spark_jobs.ingest import folders, parsing

UNFINISHED = (".crc", ".crdownload", ".download", ".filepart", ".part", ".partial", ".swp", ".temp", ".tmp", "~")
"""How names of files end that are no data: checksums, downloads that go on, what editors keep beside a file."""
_WILD = re.compile(r"[*?[]")
_MOVING, _AWAY = "somebody is writing it", "it went away"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source: its name in records, where it lies, its format."""

    name: str
    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class Landed:
    """A file that is there to be ingested: its name in records, where it lies, its format, SHA-256, and size and time when it was hashed.

    Its rows are known as those of `came_as`, the name under which it came; `mark` tells whether somebody wrote it since.
    """

    name: str
    path: Path
    format: str
    sha256: str
    mark: tuple[int, int] = (0, 0)
    came_as: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What an ingest finds: the files to read, the records of those that only have another name now, and which files are copies of which.

    `refused` cannot be read, with the reason by name; `waiting` are left for the next time, with the reason.
    """

    read: tuple[Landed, ...] = ()
    renamed: tuple[tuple[str, IngestedFile], ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    is_empty: bool = False


def look(source: Source, context: Context, *, again: Collection[str] = ()) -> Look:
    """What is new, changed or renamed among the files of a source that are there now; Files are found below the project's root.

    Those whose rows go by the names of `again` count as changed.
    """
    found, refused, waiting = _found(source, context)
    unknown, landed = {*refused, *waiting}, list[Landed]()
    for each in found:
        try:
            landed.append(_hashed(each, source))
        except FileNotFoundError:
            waiting[each.name] = _AWAY
        except OSError as error:
            refused[each.name] = f"{each.name} cannot be read: {error.strerror or error}"
            unknown.add(each.name)
    still = {file.name for file in landed if has_moved(file)}
    waiting |= dict.fromkeys(still, _MOVING)
    there = tuple(file for file in landed if file.name not in still)
    plan = planned(context.registry.files(source.name), there, elsewhere=unknown, again=again)
    return replace(plan, refused=refused, waiting=waiting, is_empty=not found and not refused)


def looked_again(found: Look, *, refused: Mapping[str, str]) -> Look:
    """What is left of a look once its files were read: without those that were refused, by what their rows go by, or written meanwhile."""
    moved = {f.name: _MOVING if f.path.exists() else _AWAY for f in found.read if has_moved(f)}
    bad = {f.name: refused[f.came_as] for f in found.read if f.came_as in refused and f.name not in moved}
    read = tuple(f for f in found.read if f.name not in moved and f.name not in bad)
    return replace(found, read=read, refused={**found.refused, **bad}, waiting={**found.waiting, **moved})


def has_moved(file: Landed) -> bool:
    """Whether a file is gone, or of another size or time than when it was hashed: somebody writes it."""
    try:
        return _mark(file.path.stat()) != file.mark
    except OSError:
        return True


def _mark(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _hashed(found: Found, source: Source) -> Landed:
    with found.path.open("rb") as file:
        mark = _mark(os.fstat(file.fileno()))
        sha256 = parsing.sha256(file, folders.at(parsing.shape(source, found.format), found.name))
    return Landed(found.name, found.path, found.format, sha256, mark)


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
    taken = {record.came_as or record.path for record in known.values()}
    read = list[Landed]()
    for file in [*others, *(f for f in landed if f.name in repeated)]:
        if file.name not in moved:
            read.append(replace(file, came_as=_came_as(file.name, known if file.name not in left else {}, taken)))
            taken.add(read[-1].came_as)
    there = [f for f in landed if f.name in same or f.name in moved]
    return Look(tuple(read), renamed, _copies([f for f in read if f.name not in same], there))


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
    gone = (replace(r, sha256="", rows=0, quarantined=0, came_as=None, ingest_id=ingest_id) for _, r in found.renamed)
    return (*now, *(record for record in gone if record.path not in names))


# ------------------------------------------------------------------------------------------------------------ what is there


def _found(source: Source, context: Context) -> tuple[list[Found], dict[str, str], dict[str, str]]:
    """The files of a source by name; what cannot be one, and what is not whole yet, each with the reason."""
    found: dict[str, Found] = {}
    refused: dict[str, str] = {}
    waiting: dict[str, str] = {}
    if isinstance(source.at, Files):
        for path in sorted({path for glob in source.at.paths for path in matches(glob, root=context.root)}):
            name = _name(path, context.root)
            if reason := _refusal(path, name):
                refused[name] = reason
            elif source.at.complete is not None and not _is_complete(path, source.at.complete):
                waiting[name] = f"there is no {source.at.complete} beside it yet"
            else:
                found[name] = Found(name, path, source.at.format)
    for file in storage.files(layout.landing_folder(context.lake, source.name), suffix=".parquet"):
        found[f"written/{file.name}"] = Found(f"written/{file.name}", Path(file.path), parsing.FRAME)
    return [found[name] for name in sorted(found)], refused, waiting


def matches(pattern: str, *, root: Path) -> Iterator[Path]:
    """The files that a glob means: nothing hidden, nothing unfinished, no folder that holds other files of it.

    Brackets are a name's own where a file or a folder is called so.
    """
    base, rest = _base(pattern, root)
    if not rest:
        yield from [base] if os.path.lexists(base) else []
        return
    paths = [path for path in base.glob("/".join(rest)) if is_data(path.relative_to(base).parts, rest)]
    holders = {parent for path in paths for parent in path.parents}
    names_files = "." in rest[-1]
    yield from (path for path in paths if not path.is_dir() or (names_files and path not in holders))


def _base(pattern: str, root: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder below which a glob looks, and the rest of the glob."""
    said = Path(pattern)
    base, parts = (Path(said.anchor), said.parts[1:]) if said.is_absolute() else (root, said.parts)
    for place, part in enumerate(parts):
        if _WILD.search(part) and not ("[" in part and os.path.lexists(base / part)):
            return base, tuple(parts[place:])
        base = base / part
    return base, ()


def is_data(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path below a glob's folder is data, by its names alone.

    A name that begins with `.` or `_` is none, unless the glob itself has one that does; a folder like `_day=5` holds data.
    """
    asked = {part[0] for part in pattern if part[0] in "._"}
    folders, last = parts[:-1], parts[-1]
    hidden = any(name[0] in "._" and name[0] not in asked and not (name[0] == "_" and "=" in name) for name in folders)
    return not (hidden or (last[0] in "._" and last[0] not in asked) or last.startswith("~$") or last.lower().endswith(UNFINISHED))


def _refusal(path: Path, name: str) -> str | None:
    """Why something that a glob matches cannot be a file; None: it can."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"{name} is a link to {str(path.readlink())!r}, which is not there" if path.is_symlink() else None
    except OSError as error:
        return f"{name} cannot be read: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        return f"{name} is a folder; files in it are read by Files({f'{name}/*'!r})"
    return None if stat.S_ISREG(mode) else f"{name} is no file that can be read twice"


def _is_complete(path: Path, marker: str) -> bool:
    """Whether a file's folder holds the marker, or the folder above the `key=value` ones that it lies in."""
    folder = path.parent
    while not (folder / marker).exists():
        if "=" not in folder.name:
            return False
        folder = folder.parent
    return True


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
