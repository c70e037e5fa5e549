"""Reads a catalog: executes every Python file below a folder and keeps the definitions that it finds at module level, with their places.

The files may import each other relatively, by the folder's own name, or as if the folder were on the path; each is executed once. Nothing
of this is left in `sys.modules` or `sys.path`, and no file is written.
"""

import ast
import builtins
import difflib
import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any, NamedTuple

from feature_definitions import language
from feature_definitions.language import (
    AnyGroup,
    DefinitionError,
    DefinitionErrors,
    Entity,
    FeatureGroup,
    FeatureService,
    ObservationGroup,
    Query,
    SnapshotGroup,
    Source,
    SourceGroup,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
)

_KINDS: Mapping[type, str] = {
    Entity: "entity",
    Source: "source",
    WindowedGroup: "group",
    ObservationGroup: "group",
    SnapshotGroup: "group",
    TransformGroup: "group",
    FeatureService: "service",
    TrainingSet: "training set",
}
_Definition = Entity | Source | FeatureGroup | FeatureService | TrainingSet


class Place(NamedTuple):
    """Where something is written: a file and a line, counted from 1."""

    file: Path
    line: int


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """What is wrong in a catalog, where, and what to write instead; line 0 is the file or folder as a whole."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        """The mistake as `file:line: message`."""
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class CatalogError(DefinitionError):
    """A catalog that can not be used; it lists every mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """Keep the mistakes in the order of files and lines."""
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


@dataclass(frozen=True, slots=True)
class Catalog:
    """All definitions of a project, each kind by name, in the order of files and lines; and where each was written.

    `origins` is keyed by (kind, name) and (kind, name, feature); the kinds are entity, source, group, service and training set.
    """

    entities: Mapping[str, Entity]
    sources: Mapping[str, Source]
    groups: Mapping[str, SourceGroup]
    services: Mapping[str, FeatureService]
    training_sets: Mapping[str, TrainingSet]
    origins: Mapping[tuple[str, ...], Place]
    transforms: Mapping[str, TransformGroup] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, FeatureGroup]:
        """All groups, transforms too, by name: each comes after those that it reads."""
        from feature_definitions.planning.upstream import ordered

        return {group.name: group for group in ordered([*self.groups.values(), *self.transforms.values()])}

    def origin_of(self, kind: str, name: str, feature: str | None = None) -> Place:
        """Where a definition is written, or a feature of a group; the whole group if the feature is not written out."""
        whole = self.origins[kind, name]
        return whole if feature is None else self.origins.get((kind, name, feature), whole)


def load(folder: Path) -> Catalog:
    """The definitions below a folder; raises CatalogError with everything that is wrong with them."""
    if not folder.is_dir():
        raise CatalogError([Mistake(folder, 0, "there is no such folder; it should hold the catalog's Python files")])
    modules = _Modules(folder)
    loaded = modules.execute()
    if modules.mistakes:
        raise CatalogError(modules.mistakes)
    found = [definition for module, file in loaded for definition in _found(module, file)]
    if not found:
        raise CatalogError(
            [Mistake(folder, 0, "nothing is defined here; write a source, an entity and a group in a file like payments.py")]
        )
    distinct = _distinct(found)
    if mistakes := [*_twice(distinct), *_sharing(distinct)]:
        raise CatalogError(mistakes)
    return _catalog(distinct)


# -------------------------------------------------------------------------------------------------------------------- executing


_NEVER_OURS = sys.stdlib_module_names | {"feature_definitions", "headwater"}
"""Modules that a catalog's file of the same name does not hide from `import`; a relative import finds the file."""


_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_NO_SUCH_NAME = re.compile(r"cannot import name '(\w+)'")


class _NotLoaded(ImportError):
    """A file that another one needs has a mistake, which is reported where it is."""


class _Modules:
    """The catalog's modules while and after they are executed; their imports of each other come here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = tuple(file for file in sorted(folder.rglob("*.py")) if _is_loaded(file.relative_to(folder)))
        self.mistakes: list[Mistake] = []
        self._root = f"headwater_catalog_{id(self):x}"
        self._modules: dict[str, ModuleType] = {}
        self._failed: set[str] = set()
        self._executed: set[str] = set()
        self._running: list[str] = []
        self._names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()} - _NEVER_OURS
        self._prefixes = _prefixes(folder.resolve())
        self._builtins = {**vars(builtins), "__import__": self._import}

    def execute(self) -> list[tuple[ModuleType, Path]]:
        """Execute every file; those that fail are left out, and named in `mistakes`."""
        path = list(sys.path)
        self.mistakes += _nameless(self.folder, self.files)
        try:
            for file in self.files if not self.mistakes else ():
                try:
                    self._load(self._name(file))
                except _NotLoaded:
                    continue
        finally:
            sys.path[:] = path
            for name in self._modules:
                sys.modules.pop(name, None)
        return [(self._modules[name], file) for file in self.files if (name := self._name(file)) in self._modules]

    def _name(self, file: Path) -> str:
        parts = file.relative_to(self.folder).with_suffix("").parts
        return ".".join((self._root, *(parts[:-1] if parts[-1] == "__init__" else parts)))

    def _file(self, name: str) -> Path | None:
        """The file of a module, the folder of a package without one, or None."""
        path = self.folder.joinpath(*name.split(".")[1:])
        candidates = (path / "__init__.py", path.with_suffix(".py") if name != self._root else path, path)
        return next((file for file in candidates if file.exists()), None)

    def _load(self, name: str) -> ModuleType:
        parent, _, stem = name.rpartition(".")
        package = self._load(parent) if parent else None
        if name in self._failed:
            raise _NotLoaded(name)
        if name not in self._modules:
            file = self._file(name)
            if file is None:
                raise ModuleNotFoundError(f"No module named {self._shown(name)!r}", name=name)
            self._execute(name, file)
        if package is not None:
            setattr(package, stem, self._modules[name])
        return self._modules[name]

    def _execute(self, name: str, file: Path) -> None:
        module = ModuleType(name)
        module.__file__ = str(file)
        is_package = file.is_dir() or file.name == "__init__.py"
        module.__package__ = name if is_package else name.rpartition(".")[0]
        if is_package:
            module.__path__ = [str(file if file.is_dir() else file.parent)]
        module.__dict__["__builtins__"] = self._builtins
        self._modules[name] = sys.modules[name] = module
        if file.is_dir():
            return
        self._running.append(name)
        self._executed.add(str(file))
        try:
            exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # a catalog is code
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a user's file raises is told to the user
            self._fail(name, file, error)
        finally:
            self._running.pop()

    def _fail(self, name: str, file: Path, error: BaseException) -> None:
        self._failed.add(name)
        del self._modules[name], sys.modules[name]
        if not isinstance(error, _NotLoaded):
            errors = error.errors if isinstance(error, DefinitionErrors) else (error,)
            self.mistakes += [self._mistake(file, each, error.__traceback__) for each in errors]
        raise _NotLoaded(name) from error

    def _mistake(self, file: Path, error: BaseException, traceback: TracebackType | None) -> Mistake:
        if isinstance(error, SyntaxError) and error.filename == str(file):
            return Mistake(file, error.lineno or 1, f"this is not Python: {error.msg}")
        place = _innermost(traceback, self._executed) or Place(file, 1)
        if isinstance(error, DefinitionError) and error.feature is not None:
            place = _of_feature(error.feature, place)
        return Mistake(place.file, place.line, self._message(error))

    def _message(self, error: BaseException) -> str:
        text = self._shown(str(error))
        match error:
            case DefinitionError():
                return text
            case ImportError():
                return text + self._advice(error.name or "", text)
            case TypeError() if unexpected := _UNEXPECTED.match(text):
                return _no_such_field(unexpected[1], unexpected[2]) or text
        return f"{type(error).__name__}: {text}" if text else type(error).__name__

    def _advice(self, name: str, text: str) -> str:
        """What to do about a failed import from `name`, if that is known."""
        if name in self._running:
            return ". These files import each other; move what both need into a third one"
        if name in sys.stdlib_module_names and self._file(f"{self._root}.{name}"):
            return f". That is Python's own {name}; write `from .{name} import ...` for the catalog's"
        wanted = _NO_SUCH_NAME.match(text)
        if wanted and name in self._modules:
            return _did_you_mean(wanted[1], vars(self._modules[name]))
        return _did_you_mean(name.rpartition(".")[2], self._names)

    def _shown(self, text: str) -> str:
        return text.replace(self._root, self.folder.resolve().name)

    # The signature of builtins.__import__, which the modules' import statements call.
    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        scope = globals or {}
        ours = self._relative(name, scope["__package__"], level) if level else self._absolute(name, scope.get("__name__", ""))
        if ours is None:
            return __import__(name, globals, locals, fromlist or (), level)
        module = self._load(ours)
        if not fromlist:
            return self._modules[self._root if name.partition(".")[0] in self._prefixes else ".".join(ours.split(".")[:2])]
        for attribute in fromlist:
            if not hasattr(module, attribute) and hasattr(module, "__path__") and self._file(f"{ours}.{attribute}"):
                self._load(f"{ours}.{attribute}")
        return module

    def _relative(self, name: str, package: str, level: int) -> str:
        parts = package.split(".")
        if level > len(parts):
            raise ImportError("this relative import leaves the catalog's folder; write fewer dots", name=name)
        return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])

    def _absolute(self, name: str, importer: str) -> str | None:
        """The catalog's module that an absolute name means, if any; Python's own modules and the importer itself go before."""
        for prefix in self._prefixes:
            if name == prefix or name.startswith(f"{prefix}."):
                return self._root + name[len(prefix) :]
        top = name.partition(".")[0]
        return f"{self._root}.{name}" if top in self._names and f"{self._root}.{top}" != importer else None


def _is_loaded(path: Path) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in path.parts[:-1])
    return not hidden and (path.name == "__init__.py" or not path.name.startswith(("_", ".")))


def _nameless(folder: Path, files: Iterable[Path]) -> Iterator[Mistake]:
    """Files that Python has no name for: with a dot in it, or with the name of another one."""
    for file in files:
        path = file.relative_to(folder).with_suffix("")
        if any("." in part for part in path.parts):
            yield Mistake(file, 0, "a dot in its name keeps it from being imported; write _ instead")
        if (file.with_suffix("") / "__init__.py").exists():
            yield Mistake(file, 0, f"{path.name}.py and {path.name}/__init__.py are one module to Python; rename one of them")


def _no_such_field(definition: str, name: str) -> str | None:
    kind = getattr(language, definition, None)
    if not isinstance(kind, type) or not is_dataclass(kind):
        return None
    known = [each.name for each in fields(kind)]
    return f"{definition} has no {name!r}{_did_you_mean(name, known)}. It has: {', '.join(known)}"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _prefixes(folder: Path) -> tuple[str, ...]:
    """The folder's own name, and the dotted ones by which it could be imported from the packages around it."""
    names = [folder.name]
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
        names.append(f"{folder.name}.{names[-1]}")
    return tuple(name for name in names if name not in _NEVER_OURS)


def _innermost(traceback: TracebackType | None, files: Container[str]) -> Place | None:
    """The line of the catalog's files in which an error arose; the newest call counts."""
    place = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file in files:
            place = Place(Path(file), traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def _of_feature(feature: str, group: Place) -> Place:
    """The line of a feature inside the call that makes its group, or elsewhere in the same file; the group's if it is not written out."""
    tree = ast.parse(group.file.read_bytes())
    lines = _feature_lines(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno == group.line:
            lines |= _feature_lines(node)
    return Place(group.file, lines.get(feature, group.line))


# ---------------------------------------------------------------------------------------------------------------------- finding


@dataclass(frozen=True, slots=True)
class _Found:
    """A definition at module level: where it is written, or (imported, or part of another) where it was met."""

    value: _Definition
    place: Place
    is_written: bool
    features: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What must be unique: the kind and the name."""
        return _KINDS[type(self.value)], self.value.name


def _found(module: ModuleType, file: Path) -> Iterator[_Found]:
    tree = ast.parse(file.read_bytes())
    assigned = dict(_assigned(tree.body))
    everywhere = _feature_lines(tree)
    for name, value in list(vars(module).items()):
        for definition, node in _definitions(value, assigned.get(name)):
            features = everywhere | (_feature_lines(node) if node is not None else {})
            met = _Found(definition, Place(file, node.lineno if node is not None else 1), isinstance(node, ast.Call), features)
            yield met
            yield from (_Found(part, met.place, is_written=False) for part in _parts(definition))


def _assigned(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """The names assigned at module level, with what is assigned, also below `if`, `for`, `with` and `try`."""
    for statement in statements:
        match statement:
            case ast.Assign(targets=targets, value=value):
                yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.If() | ast.For() | ast.With() | ast.Try():
                yield from _assigned([s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)])


def _definitions(value: object, node: ast.expr | None) -> Iterator[tuple[_Definition, ast.expr | None]]:
    """The definitions that a value is or holds, each with the expression that wrote it, as far as that is known."""
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        written = node.elts if isinstance(node, ast.Tuple | ast.List) and len(node.elts) == len(value) else [node] * len(value)
        for part, expression in zip(value, written, strict=True):
            yield from _definitions(part, expression)
    elif isinstance(value, _Definition):
        yield value, node


def _parts(definition: _Definition) -> Iterator[_Definition]:
    """The definitions that a definition is made of: those that nobody named are part of the catalog too."""
    match definition:
        case AnyGroup():
            direct: tuple[_Definition, ...] = (definition.entity, *definition.inputs)
        case Source(at=Query(sources=sources)):
            direct = sources
        case FeatureService():
            direct = tuple(join.group for join in definition.joins)
        case TrainingSet():
            direct = (definition.spine, definition.service)
        case _:
            direct = ()
    for part in direct:
        yield part
        yield from _parts(part)


def _feature_lines(node: ast.AST) -> dict[str, int]:
    """The lines of the calls of Feature and Derived below a node, by the feature's name."""
    lines: dict[str, int] = {}
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in ("Feature", "Derived"):
            named = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
            lines |= {name.value: call.lineno for name in named if isinstance(name, ast.Constant) and isinstance(name.value, str)}
    return lines


def _distinct(found: Sequence[_Found]) -> list[_Found]:
    """Each definition once, at the place where it is written, in the order of files and lines."""
    best: dict[int, _Found] = {}
    for one in found:
        known = best.get(id(one.value))
        if known is None or (one.is_written, known.place) > (known.is_written, one.place):
            best[id(one.value)] = one
    return sorted(best.values(), key=lambda one: one.place)


def _twice(distinct: Sequence[_Found]) -> Iterator[Mistake]:
    first: dict[tuple[str, str], _Found] = {}
    for one in distinct:
        known = first.setdefault(one.key, one)
        if known is not one:
            kind, name = one.key
            where = f"{known.place.file}:{known.place.line}"
            yield Mistake(*one.place, f"{kind} {name} is already defined at {where}; rename one, or define it once and import it")


def _sharing(distinct: Sequence[_Found]) -> Iterator[Mistake]:
    """Groups with the name of a source: what both reject would lie in one quarantine table."""
    sources = {one.value.name: one for one in distinct if isinstance(one.value, Source)}
    for one in distinct:
        kind, name = one.key
        if kind == "group" and name in sources:
            place = sources[name].place
            yield Mistake(*one.place, f"group {name} has the name of the source at {place.file}:{place.line}; rename one of them")


def _catalog(distinct: Sequence[_Found]) -> Catalog:
    origins: dict[tuple[str, ...], Place] = {one.key: one.place for one in distinct}
    for one in distinct:
        if isinstance(one.value, WindowedGroup):
            lines = {f.name: one.features[f.name] for f in one.value.features if f.name in one.features}
            origins |= {("group", one.value.name, feature): Place(one.place.file, line) for feature, line in lines.items()}
    values = [one.value for one in distinct]
    return Catalog(
        entities=MappingProxyType({v.name: v for v in values if isinstance(v, Entity)}),
        sources=MappingProxyType({v.name: v for v in values if isinstance(v, Source)}),
        groups=MappingProxyType({v.name: v for v in values if isinstance(v, SourceGroup)}),
        services=MappingProxyType({v.name: v for v in values if isinstance(v, FeatureService)}),
        training_sets=MappingProxyType({v.name: v for v in values if isinstance(v, TrainingSet)}),
        origins=MappingProxyType(origins),
        transforms=MappingProxyType({v.name: v for v in values if isinstance(v, TransformGroup)}),
    )
