"""Executes a catalog's files as modules: a finder of `importlib`, in `sys.meta_path` only while the files are executed.

The modules have names below one that nobody else has, so two catalogs, or two threads that load one, share nothing. Two
things a finder cannot do, since Python asks `sys.modules` first and does not say who imports: a catalog's `redis.py`
goes before the installed `redis` for the catalog's files alone, and a function of the catalog may still import when it
is called later. For these, the `__import__` that the catalog's files see says which of their absolute names are the
catalog's, and leaves the rest to Python's own.
"""

import builtins
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from feature_definitions.language import DefinitionError, DefinitionErrors
from feature_definitions.loader.mistakes import Mistake, did_you_mean, no_such_field
from feature_definitions.loader.places import Place, innermost, of_feature

_LANGUAGE = "feature_definitions"
_NEVER_OURS = sys.stdlib_module_names | {_LANGUAGE, "headwater"}
"""Modules that a catalog's file of the same name does not hide from `import`; a relative import finds the file."""

_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_NO_SUCH_NAME = re.compile(r"cannot import name '(\w+)'")
_TOO_MANY_DOTS = "attempted relative import beyond top-level package"


class _NotLoaded(ImportError):
    """A file that another one needs has a mistake, which is reported where it is."""


class CatalogModules:
    """The modules of a catalog's folder: the finder of their imports, while they are executed and after."""

    def __init__(self, folder: Path) -> None:
        """Find the files; nothing is executed yet."""
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
        self._lock = threading.RLock()

    def execute(self) -> list[tuple[ModuleType, Path]]:
        """Execute every file; those that fail are left out, and named in `mistakes`."""
        path = list(sys.path)
        self.mistakes += _nameless(self.folder, self.files)
        nameless = {mistake.file for mistake in self.mistakes}
        try:
            with self._importable():
                for file in self.files:
                    with suppress(_NotLoaded):
                        if file not in nameless:
                            importlib.import_module(self._name(file))
        finally:
            sys.path[:] = path
        return [(self._modules[name], file) for file in self.files if (name := self._name(file)) in self._modules]

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """The catalog's module of a name, if it is one: a file, or the folder of a package without `__init__.py`."""
        if name in self._failed:
            raise _NotLoaded(name)
        file = self._file(name)
        if file is None:
            return None
        spec = ModuleSpec(name, None if file.is_dir() else _FileLoader(name, file, run=self._run), origin=str(file))
        spec.has_location = not file.is_dir()
        if file.is_dir() or file.name == "__init__.py":
            spec.submodule_search_locations = [str(file if file.is_dir() else file.parent)]
        return spec

    @contextmanager
    def _importable(self) -> Iterator[None]:
        """Let Python find the catalog's modules for a while; those that it has are kept here afterwards."""
        with self._lock:
            if self in sys.meta_path:
                yield
                return
            sys.meta_path.insert(0, self)
            sys.modules.update(self._modules)
            try:
                yield
            finally:
                sys.meta_path.remove(self)
                self._modules = {name: sys.modules.pop(name) for name in [*sys.modules] if self._is_ours(name)}

    def _is_ours(self, name: str) -> bool:
        return name.partition(".")[0] == self._root

    def _name(self, file: Path) -> str:
        parts = file.relative_to(self.folder).with_suffix("").parts
        return ".".join((self._root, *(parts[:-1] if parts[-1] == "__init__" else parts)))

    def _file(self, name: str) -> Path | None:
        """The file of a module, the folder of a package without one, or None."""
        if not self._is_ours(name):
            return None
        path = self.folder.joinpath(*name.split(".")[1:])
        candidates = (path / "__init__.py", path.with_suffix(".py") if name != self._root else path, path)
        return next((file for file in candidates if file.exists()), None)

    def _run(self, module: ModuleType, file: Path, execute: Callable[[ModuleType], None]) -> None:
        name = module.__name__
        module.__dict__["__builtins__"] = self._builtins
        self._running.append(name)
        self._executed.add(str(file))
        try:
            execute(module)
        except _NotLoaded:
            self._failed.add(name)
            raise
        except (Exception, SystemExit) as error:  # whatever a user's file raises is told to the user
            self._failed.add(name)
            errors = error.errors if isinstance(error, DefinitionErrors) else (error,)
            self.mistakes += [self._mistake(file, each, error.__traceback__) for each in errors]
            raise _NotLoaded(name) from error
        finally:
            self._running.pop()

    # The signature of builtins.__import__, which the modules' import statements call.
    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        ours = name if level else self._absolute(name, (globals or {}).get("__name__", ""))
        if ours is None:
            return __import__(name, globals, locals, fromlist or (), level)
        with self._importable():
            module = __import__(ours, globals, locals, fromlist or (), level)
            if fromlist:
                return module
            return sys.modules[self._root if name.partition(".")[0] in self._prefixes else ".".join(ours.split(".")[:2])]

    def _absolute(self, name: str, importer: str) -> str | None:
        """The catalog's module that an absolute name means; None of Python's own modules, and of the importer itself."""
        for prefix in self._prefixes:
            if name == prefix or name.startswith(f"{prefix}."):
                return self._root + name[len(prefix) :]
        top = name.partition(".")[0]
        return f"{self._root}.{name}" if top in self._names and f"{self._root}.{top}" != importer else None

    # ------------------------------------------------------------------------------------------------------------------ mistakes

    def _mistake(self, file: Path, error: BaseException, traceback: TracebackType | None) -> Mistake:
        if isinstance(error, SyntaxError) and error.filename == str(file):
            return Mistake(file, error.lineno or 1, f"this is not Python: {error.msg}")
        place = innermost(traceback, self._executed) or Place(file, 1)
        if isinstance(error, DefinitionError) and error.feature is not None:
            place = of_feature(error.feature, place)
        return Mistake(place.file, place.line, self._message(error))

    def _message(self, error: BaseException) -> str:
        text = self._readable(str(error))
        match error:
            case DefinitionError():
                return text
            case ImportError():
                return text + self._advice(error.name or "", text)
            case TypeError() if unexpected := _UNEXPECTED.match(text):
                return no_such_field(unexpected[1], unexpected[2]) or text
        return f"{type(error).__name__}: {text}" if text else type(error).__name__

    def _advice(self, name: str, text: str) -> str:
        """What to do about a failed import from `name`, if that is known."""
        if text == _TOO_MANY_DOTS:
            return ". It leaves the catalog's folder; write fewer dots"
        if name in self._running:
            return ". These files import each other; move what both need into a third one"
        if name in sys.stdlib_module_names and self._file(f"{self._root}.{name}"):
            return f". That is Python's own {name}; write `from .{name} import ...` for the catalog's"
        wanted = _NO_SUCH_NAME.match(text)
        if wanted and (self._is_ours(name) or name == _LANGUAGE) and name in sys.modules:
            return did_you_mean(wanted[1], vars(sys.modules[name]))
        return did_you_mean(name.rpartition(".")[2], self._names)

    def _readable(self, text: str) -> str:
        return text.replace(self._root, self.folder.resolve().name)


class _FileLoader(SourceFileLoader):
    """Executes one file, compiled anew: no bytecode is read or written."""

    def __init__(self, name: str, file: Path, *, run: Callable[[ModuleType, Path, Callable[[ModuleType], None]], None]) -> None:
        super().__init__(name, str(file))
        self._run = run

    def exec_module(self, module: ModuleType) -> None:
        self._run(module, Path(self.path), super().exec_module)

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError(f"nothing is remembered of {path}")


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


def _prefixes(folder: Path) -> tuple[str, ...]:
    """The folder's own name, and the dotted ones by which it could be imported from the packages around it."""
    names = [folder.name]
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
        names.append(f"{folder.name}.{names[-1]}")
    return tuple(name for name in names if name not in _NEVER_OURS)
