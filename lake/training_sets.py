"""The training sets that lie in the lake, without Spark: their manifests, and the versions of their tables that can still be read.

Each build keeps its manifest under the id of its commit before it commits, so that no version of a table is without one. A manifest
counts if its commit happened. The newest one lies beside the table, too.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from feature_definitions import layout
from feature_definitions.errors import Unknown
from lake import delta, delta_files, logs, storage

Manifest = dict[str, object]

LASTING: Mapping[str, str] = {"delta.logRetentionDuration": "interval 36500 days"}
"""What is set of a training set's table: its log is kept, so that a version stays readable as long as its files are there."""


class BuiltVersion(NamedTuple):
    """One build of a training set: the version of its Delta table, None once the log does not tell it any more, and its manifest."""

    build_id: str
    version: int | None
    manifest: Manifest


def names(lake: str) -> list[str]:
    """The training sets that lie in the lake, in the order of their names."""
    found = {file.name.removesuffix(layout.MANIFEST) for file in storage.files(layout.training_sets(lake), suffix=layout.MANIFEST)}
    return sorted(found)


def newest(lake: str, name: str) -> Manifest | None:
    """The manifest of a training set; None if there is none that can be read."""
    return _read(layout.training_set_manifest(lake, name))


def rejected(lake: str, name: str) -> Manifest | None:
    """The manifest of the newest build of a training set, if that was rejected."""
    return _read(layout.rejected_training_set(lake, name))


def _read(path: str) -> Manifest | None:
    try:
        held = json.loads(storage.read(path))
    except (OSError, ValueError):
        return None
    return _Told(held) if isinstance(held, dict) and "name" in held else None


class _Told(Manifest):
    """A manifest as it was read; what it does not tell is named."""

    def __missing__(self, what: str) -> object:
        """Raise Unknown, not KeyError."""
        name = self["name"]
        raise Unknown(f"a manifest of training set {name} does not tell its {what}; build it again: headwater training-set build {name}")


class Listed(NamedTuple):
    """A training set as a list has it: its newest version, how many there are, and the checks that rejected a newer build.

    The manifest is empty where none can be read.
    """

    name: str
    newest: BuiltVersion
    versions: int
    rejected: tuple[str, ...]


class Shown(NamedTuple):
    """A version as a person is shown it: its number, its manifest, where its table and its page lie, and whether it can be read."""

    number: int
    manifest: Manifest
    path: str
    page: str | None
    readable: bool


def listed(lake: str) -> tuple[Listed, ...]:
    """All training sets; of one that was built before its versions were kept the number of its version is not known."""
    found = []
    for name in names(lake):
        newer, kept = rejected(lake, name) or {}, list[BuiltVersion]()
        with suppress(logs.DamagedLog):  # whoever asks for this one is told
            kept = versions(lake, name)
        checks = newer.get("rejected")
        one = kept[0] if kept else BuiltVersion("", None, newest(lake, name) or {})
        one = one if one.manifest.keys() >= _LISTED else one._replace(manifest={})
        found.append(Listed(name, one, len(kept), tuple(checks) if isinstance(checks, list) else ()))
    return tuple(found)


_LISTED = {"name", "rows", "service", "version", "mode", "built_at"}
"""What a list says of a manifest."""


def shown(of: BuiltVersion, lake: str) -> Shown:
    """A version as a person is shown it."""
    name = str(of.manifest["name"])
    page = page_of(of.manifest | {"build_id": of.build_id}, lake)
    path = layout.training_set_table(lake, name)
    return Shown(number(of), of.manifest, path, page if storage.exists(page) else None, is_readable(of, lake))


# ------------------------------------------------------------------------------------------------------------------------ writing


def write_rejected(manifest: Manifest, lake: str, name: str) -> None:
    """Keep the manifest of a build that was rejected, beside that of the table that readers see."""
    storage.write(layout.rejected_training_set(lake, name), _text(manifest))


def begin(manifest: Manifest, lake: str, name: str, *, build_id: str) -> None:
    """Keep the manifest of a build that is about to be committed; the newest one must not outlive the table that it describes."""
    storage.write(layout.training_set_build(lake, name, build_id), _text(manifest))
    storage.delete(layout.training_set_manifest(lake, name))


def finish(manifest: Manifest, lake: str, name: str, *, build_id: str) -> Manifest:
    """Put the manifest of a build that was committed beside its table, with its id and version; gives that."""
    whole = manifest | {"build_id": build_id, "delta_version": logs.commit_of(layout.training_set_table(lake, name), build_id)[0]}
    storage.write(layout.training_set_build(lake, name, build_id), _text(whole))
    storage.write(layout.training_set_manifest(lake, name), _text(whole))
    storage.delete(layout.rejected_training_set(lake, name))
    storage.delete(layout.training_set_page(lake, name, _REJECTED))
    return whole


def renewed(manifest: Mapping[str, object], by: Mapping[str, object], lake: str) -> Manifest:
    """A build's manifest with by what else it is known again, whose rows would come out the same: other versions of its spine.

    The caller holds the lease of the training set.
    """
    whole, name = {**manifest, **by}, str(manifest["name"])
    if whole == manifest:
        return whole
    if "rejected" in manifest:
        write_rejected(whole, lake, name)
    else:
        storage.write(layout.training_set_build(lake, name, str(manifest["build_id"])), _text(whole))
        storage.write(layout.training_set_manifest(lake, name), _text(whole))
    return whole


def write_page(page: str, manifest: Manifest, lake: str) -> None:
    """Put the page of a build beside its manifest; that of a rejected one lies there until a build is published."""
    storage.write(page_of(manifest, lake), page.encode())


def page_of(manifest: Manifest, lake: str) -> str:
    """Where the page of a build lies."""
    return layout.training_set_page(lake, str(manifest["name"]), str(manifest.get("build_id", _REJECTED)))


_REJECTED = "rejected"
"""Under which name the page of a rejected build lies."""


def _text(manifest: Manifest) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()


# ----------------------------------------------------------------------------------------------------------------------- versions


def versions(lake: str, name: str) -> list[BuiltVersion]:
    """All builds of a training set whose commit happened, the newest first; those that the log does not tell of are older."""
    path = layout.training_set_table(lake, name)
    if not delta.exists(path):
        return []
    logged = logs.versions_of(path)
    found = [BuiltVersion(build, logged.get(build), manifest) for build, manifest in _kept(lake, name)]
    happened = [each for each in found if each.version is not None or "delta_version" in each.manifest]
    return sorted(happened, key=lambda each: (each.version is not None, number(each)), reverse=True)


def _kept(lake: str, name: str) -> Iterator[tuple[str, Manifest]]:
    for file in storage.files(layout.training_set_builds(lake, name), suffix=".json"):
        manifest = _read(file.path)
        if manifest is not None:
            yield file.name.removesuffix(".json"), manifest


def number(of: BuiltVersion) -> int:
    """By which number a version is asked for: its manifest tells of it once the log does not."""
    return of.version if of.version is not None else int(str(of.manifest["delta_version"]))


def generations(of: BuiltVersion) -> dict[str, int]:
    """The generation of each group that a version was built from."""
    groups = of.manifest["groups"]
    return {name: each["generation"] for name, each in groups.items()} if isinstance(groups, dict) else {}


def spine_of(of: BuiltVersion) -> str | None:
    """The source whose rows a version was built for; None if they were given."""
    spine = of.manifest["spine"]
    return spine["source"] if isinstance(spine, dict) else None


def time_of(of: BuiltVersion) -> str:
    """The column of a version that says at which time each row was joined."""
    spine = of.manifest["spine"]
    return str(spine["event_timestamp"]) if isinstance(spine, dict) else ""


def is_readable(of: BuiltVersion, lake: str) -> bool:
    """Whether the rows of a version can be read: its log and all of its files are there."""
    return of.version is not None and delta_files.readable(layout.training_set_table(lake, str(of.manifest["name"])), of.version)


def stands(manifest: Manifest, lake: str) -> bool:
    """Whether the build that a manifest tells of is a version of its table that can be read, and is known as one."""
    name, version = str(manifest["name"]), manifest.get("delta_version")
    known = _read(layout.training_set_build(lake, name, str(manifest.get("build_id")))) is not None
    return known and isinstance(version, int) and delta_files.readable(layout.training_set_table(lake, name), version)


def at(lake: str, name: str, version: int | None = None) -> BuiltVersion:
    """A version of a training set, by default the newest one; raises Unknown for one that there is not."""
    found = [] if "/" in name else versions(lake, name)
    if not found and name in names(lake):
        path = layout.training_set_table(lake, name)
        why = "has no manifest of a version that can be read" if delta.exists(path) else f"has no table any more: {path} is gone"
        raise Unknown(f"training set {name} {why}; build it again: headwater training-set build {name}")
    if not found:
        raise Unknown(f"there is no training set {name!r} in the lake. There are: {', '.join(names(lake)) or 'none'}")
    if version is None:
        return found[0]
    for each in found:
        if number(each) == version:
            return each
    raise Unknown(f"training set {name} has no version {version}. It has: {', '.join(str(number(each)) for each in found)}")


def pair(lake: str, name: str, other: str | None, *, start: int | None, end: int | None) -> tuple[BuiltVersion, BuiltVersion]:
    """Two versions that are to be compared: by default the last one but one and the newest, of two training sets the newest of each."""
    second = at(lake, other or name, end)
    if start is not None or other is not None:
        return at(lake, name, start), second
    older = [each for each in versions(lake, name) if number(each) < number(second)]
    if not older:
        raise Unknown(f"training set {name} has no version before {number(second)}; name another training set to compare it with")
    return older[0], second


def name_of(path: str, lake: str) -> str | None:
    """The training set that a table is of; None of any other table."""
    folder, _, name = path.rpartition("/")
    return name if folder == layout.training_sets(lake) else None


def kept_versions(lake: str, name: str) -> list[int]:
    """The versions of a training set that must stay readable: those that have a manifest. Manifests of builds that did not commit go.

    The caller holds the lease of the training set: a build that is about to commit has its manifest there already.
    """
    found = versions(lake, name)
    committed = {each.build_id for each in found}
    for build, _ in _kept(lake, name):
        if build not in committed:
            storage.delete(layout.training_set_build(lake, name, build))
            storage.delete(layout.training_set_page(lake, name, build))
    return [each.version for each in found if each.version is not None]
