"""What a repository of Feast's defines, in records that know nothing of Feast: what has no words of ours is named."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.entity import Entity
from feast.feature_view import DUMMY_ENTITY_NAME, FeatureView
from feast.infra.offline_stores.file_source import FileSource
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig, load_repo_config
from feast.repo_contents import RepoContents
from feast.repo_operations import parse_repo
from feast.stream_feature_view import StreamFeatureView
from feast.transformation.udf_rehydrate import _strip_leading_decorators
from feast.types import Array, Bool, FeastType, Float32, Float64, Int32, Int64, Json, String, UnixTimestamp, from_value_type
from feast.value_type import ValueType

from feast_bridge.draft_catalog import (
    FeastContents,
    FeastFunction,
    FeastJoin,
    FeastService,
    FeastSource,
    FeastView,
    is_column,
    mentions,
    plain,
)
from feast_bridge.refused import FeastRefused, explained

_TYPES = {
    Bool: "boolean",
    Float32: "double",
    Float64: "double",
    Int32: "int64",
    Int64: "int64",
    Json: "string",
    String: "string",
    UnixTimestamp: "timestamp",
}


def contents(repo: Path, *, root: Path) -> FeastContents:
    """What the repository in a folder defines; paths of files become relative to `root`."""
    settings = repo / "feature_store.yaml"
    if not settings.is_file():
        raise FeastRefused(f"{repo} is no repository of Feast's: it has no feature_store.yaml; name another folder, like --from feast:DIR")
    with within(repo):
        with explained(f"{repo} cannot be read", instead="its modules are imported for it: what they import must be installed"):
            config, found = load_repo_config(repo, settings), parse_repo(repo)
        return _Reader(found, config, repo, root).contents()


@contextmanager
def within(repo: Path) -> Iterator[None]:
    """Its modules are those that are imported, also one that is called as one of ours is: Feast's template has a `feature_definitions`."""
    own = {path.relative_to(repo).parts[0].removesuffix(".py") for path in repo.glob("**/*.py")}
    before, aside = Path.cwd(), {name: module for name, module in sys.modules.items() if name.partition(".")[0] in own}
    for name in aside:
        del sys.modules[name]
    sys.path.insert(0, str(repo))
    os.chdir(repo)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(repo))
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]
        sys.modules.update(aside)


def ours(kind: FeastType) -> str | None:
    """The type of ours for one of Feast's; None if there is none."""
    if isinstance(kind, Array):
        inner = ours(kind.base_type)
        return None if inner is None or inner.startswith("array") else f"array<{inner}>"
    return _TYPES.get(kind)


class _Reader:
    """Reads a repository once; what cannot be said is kept as sentences."""

    def __init__(self, found: RepoContents, config: RepoConfig, repo: Path, root: Path) -> None:
        self._found, self._config, self._repo, self._root = found, config, repo, root
        self._entities: Mapping[str, Entity] = {each.name: each for each in found.entities}
        self._left: list[str] = []

    def contents(self) -> FeastContents:
        """Everything, each kind in the repository's order."""
        views = [view for each in (*self._found.feature_views, *self._found.stream_feature_views) if (view := self._view(each)) is not None]
        sources = self._sources([view for view, _ in views])
        kept = [(view, of) for view, of in views if of.batch_source.name in sources]
        by_name = {view.name: view for view, _ in kept}
        functions = [one for each in self._found.on_demand_feature_views if (one := self._function(each, by_name)) is not None]
        services = [self._service(each, by_name, {one.name for one in functions}) for each in self._found.feature_services]
        self._rest()
        whole = tuple(each for each in services if each is not None)
        used = {view.source for view in by_name.values()}
        chosen = tuple(source for source in sources.values() if source.name in used)
        return FeastContents(self._config.project, chosen, (*by_name.values(),), (*functions,), whole, (*self._left,))

    # ------------------------------------------------------------------------------------------------------------------- views

    def _view(self, of: FeatureView) -> tuple[FeastView, FeatureView] | None:
        if of.batch_source is None or of.source_views:
            self._left.append(f"view {of.name} is made of other views; write a TransformGroup")
            return None
        if of.entities == [DUMMY_ENTITY_NAME] or not of.entities:
            self._left.append(f"view {of.name} has no entity; a group needs a key, such as one of a single value")
            return None
        keys, types = self._keys(of), self._types(of)
        features = tuple(name for name in types if name not in keys)
        if not features:
            self._left.append(f"view {of.name} has no feature of a type that columns have here")
            return None
        ttl = None if not of.ttl else f"{int(of.ttl.total_seconds())}s"
        entity = "_".join(of.entities)
        tags = tuple(f"{name}:{value}" if value not in ("", "true") else name for name, value in of.tags.items())
        said = " ".join(filter(None, (of.description, self._stream(of))))
        return FeastView(of.name, entity, keys, of.batch_source.name, features, _span(ttl), of.online, of.owner, tags, said), of

    def _keys(self, of: FeatureView) -> dict[str, str]:
        declared = {field.name: ours(field.dtype) for field in of.entity_columns}
        names = [self._entities[name] for name in of.entities]
        found = {}
        for each in names:
            known = None if each.value_type == ValueType.UNKNOWN else ours(from_value_type(each.value_type))
            found[each.join_key] = declared.get(each.join_key) or known or self._file_types(of.batch_source).get(each.join_key) or "string"
        return found

    def _types(self, of: FeatureView) -> dict[str, str]:
        """The features of a view with their types, in order; those that Feast would find in the data are found there."""
        fields = {field.name: ours(field.dtype) for field in of.features}
        if not fields:
            taken = {of.batch_source.timestamp_field, of.batch_source.created_timestamp_column}
            fields = {name: kind for name, kind in self._file_types(of.batch_source).items() if name not in taken}
        for name, kind in fields.items():
            if kind is None:
                self._left.append(f"feature {name} of view {of.name}: no column here has the type {_shown(of, name)}")
            elif not is_column(name):
                self._left.append(f"feature {name} of view {of.name}: no column here has such a name; rename it")
        return {name: kind for name, kind in fields.items() if kind is not None and is_column(name)}

    def _file_types(self, source: DataSource) -> dict[str, str]:
        """The columns of a source as its data have them, under Feast's names; nothing if they cannot be looked at."""
        try:
            pairs = [*source.get_table_column_names_and_types(self._config)]
            kinds = {name: ours(from_value_type(_converter(source)(kind))) for name, kind in pairs}
        except Exception:  # noqa: BLE001  # whatever a source's client raises: then the types are for a person to say
            return {}
        return {source.field_mapping.get(name, name): kind for name, kind in kinds.items() if kind is not None}

    def _stream(self, of: FeatureView) -> str:
        said = []
        if of.stream_source is not None:
            kind = type(of.stream_source).__name__
            self._left.append(f"view {of.name}: its {kind} {of.stream_source.name}; here events come by files, tables or Project.write")
            said.append(f"In Feast it also takes a {kind}.")
        if isinstance(of, StreamFeatureView) or type(of).__name__ == "BatchFeatureView":
            if getattr(of, "aggregations", None):
                shown = ", ".join(f"{each.function}({each.column}) over {each.time_window}" for each in of.aggregations)
                self._left.append(f"view {of.name}: its aggregations ({shown}); write a WindowedGroup")
            if getattr(of, "udf", None) is not None:
                self._left.append(
                    f"view {of.name}: its function {getattr(of.udf, '__name__', '')}; write a TransformGroup, or derive columns"
                )
        return " ".join(said)

    # ----------------------------------------------------------------------------------------------------------------- sources

    def _sources(self, views: list[FeastView]) -> dict[str, FeastSource]:
        """The sources of views, each with the columns that any of these reads."""
        found: dict[str, FeastSource] = {}
        for each in (*self._found.feature_views, *self._found.stream_feature_views):
            view = next((view for view in views if view.name == each.name), None)
            if view is None:
                continue
            name = each.batch_source.name
            at = self._place(each.batch_source)
            if at is None:
                self._left.append(f"source {name}, a {type(each.batch_source).__name__}, and what reads it: Headwater does not read it")
                continue
            held = found.get(name)
            types = self._types_of_columns(each, view)
            columns = {**({} if held is None else held.columns), **types}
            keys = tuple(dict.fromkeys((*(() if held is None else held.keys), *view.keys)))
            created = each.batch_source.created_timestamp_column or None
            found[name] = FeastSource(name, at, columns, keys, each.batch_source.timestamp_field, created, each.batch_source.description)
        return found

    def _types_of_columns(self, of: FeatureView, view: FeastView) -> dict[str, tuple[str, str]]:
        back = {new: old for old, new in of.batch_source.field_mapping.items()}
        types = {**view.keys, **{name: kind for name, kind in self._known(of).items() if name in view.features}}
        times = {of.batch_source.timestamp_field: "timestamp"}
        times |= {of.batch_source.created_timestamp_column: "timestamp"} if of.batch_source.created_timestamp_column else {}
        return {name: (kind, back.get(name, name)) for name, kind in {**types, **times}.items()}

    def _known(self, of: FeatureView) -> dict[str, str]:
        declared = {field.name: kind for field in of.features if (kind := ours(field.dtype)) is not None}
        return declared or self._file_types(of.batch_source)

    def _place(self, of: DataSource) -> str | None:
        """What stands for a source's place in our words."""
        table, query, path = (getattr(of, name, None) for name in ("table", "query", "path"))
        kind = type(of).__name__
        if isinstance(of, FileSource):
            return self._files(str(of.path), delta=isinstance(of.file_format, DeltaFormat))
        if kind == "SparkSource":
            if path:
                return self._files(str(path), delta="delta" in str(getattr(of, "file_format", "")) or of.table_format is not None)
            return f"Table({table!r})" if table else None
        connection = plain(kind.removesuffix("Source"))
        if query:
            return f"Jdbc(query={query!r}, connection={connection!r})"
        return f"Jdbc({table!r}, connection={connection!r})" if table else None

    def _files(self, path: str, *, delta: bool) -> str | None:
        if "://" in path:
            scheme, _, rest = path.partition("://")
            if scheme not in ("s3", "s3a"):
                return None
            path = f"s3a://{rest}"
        else:
            path = os.path.relpath((self._repo / path).resolve(), self._root)
        if delta:
            return f"DeltaTable({path!r})"
        ending = Path(path).suffix.removeprefix(".")
        place = path if ending else f"{path}/*.parquet"
        return f"Files({place!r}, format={ending if ending in ('csv', 'json') else 'parquet'!r})"

    # ------------------------------------------------------------------------------------------------------- functions, services

    def _function(self, of: OnDemandFeatureView, views: Mapping[str, FeastView]) -> FeastFunction | None:
        reads = [(p.name, field.name, ours(field.dtype)) for p in of.source_feature_view_projections.values() for field in p.features]
        unknown = [f"{view}:{name}" for view, name, _ in reads if view not in views or name not in views[view].features]
        requests = {name: ours(from_value_type(kind)) for name, kind in of.get_request_data_schema().items()}
        outputs = {field.name: ours(field.dtype) for field in of.features}
        named = {name for name, kind in (*requests.items(), *outputs.items()) if kind is None}
        text = getattr(of.feature_transformation, "udf_string", "")
        if of.mode not in ("pandas", "python") or not text or named:
            why = f"{', '.join(sorted(named))} of a type that is not here" if named else f"its mode is {of.mode}"
            self._left.append(f"on-demand view {of.name}: {why}")
            return None
        asked = [each for each in reads if mentions(text, each[1])] or reads
        used = tuple((view, name, str(kind)) for view, name, kind in asked if f"{view}:{name}" not in unknown)
        if missing := [f"{view}:{name}" for view, name, _ in asked if f"{view}:{name}" in unknown]:
            self._left.append(f"on-demand view {of.name} reads {', '.join(missing)}, which is not here")
        function = of.feature_transformation.udf
        mode = "singleton" if of.singleton else of.mode
        imports, others = _globals(function)
        if others:
            self._left.append(f"on-demand view {of.name}: its function uses {', '.join(others)}, defined elsewhere; bring it along")
        tags = tuple(f"{name}:{value}" if value not in ("", "true") else name for name, value in of.tags.items())
        source, imports = _strip_leading_decorators(text), (*imports, *(("import pandas as pd",) if mode == "pandas" else ()))
        kinds = {name: str(kind) for name, kind in requests.items()}, {name: str(kind) for name, kind in outputs.items()}
        return FeastFunction(of.name, source, function.__name__, mode, used, *kinds, tuple(dict.fromkeys(imports)), of.owner, tags)

    def _service(self, of: Any, views: Mapping[str, FeastView], functions: set[str]) -> FeastService | None:
        joins, on_demand = [], []
        for each in of.feature_view_projections:
            names = tuple(field.name for field in each.features)
            if each.name in functions:
                on_demand.append((each.name, names))
            elif each.name in views:
                have = views[each.name].features
                asked = tuple(name for name in (names or have) if name in have)
                joins.append(FeastJoin(each.name, asked, each.name_alias, dict(each.join_key_map)))
            else:
                self._left.append(f"service {of.name} asks for {each.name}, which is not here")
        if not joins and not on_demand:
            return None
        return FeastService(of.name, tuple(join for join in joins if join.features), tuple(on_demand))

    def _rest(self) -> None:
        """Name what has no place here at all."""
        for each in self._found.label_views:
            self._left.append(f"label view {each.name}: labels are columns of a spine; write a TrainingSet with label=Label(...)")
        for each in self._found.permissions:
            self._left.append(f"permission {each.name}: Headwater has API keys of its server, and those of the lake")


def _shown(of: FeatureView, name: str) -> str:
    return next((str(field.dtype) for field in of.features if field.name == name), "of the data")


def _converter(source: DataSource) -> Callable[[str], ValueType]:
    found: Callable[[str], ValueType] = source.source_datatype_to_feast_value_type()
    return found


def _span(seconds: str | None) -> str | None:
    """A number of seconds in the greatest unit that divides it."""
    if seconds is None:
        return None
    number = int(seconds.removesuffix("s"))
    return next(f"{number // size}{unit}" for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if number % size == 0)


def _globals(function: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines that import the modules that a function uses, and the other names that it finds outside of itself."""
    imports, others = list[str](), list[str]()
    known = getattr(function, "__globals__", {})
    for name in _names(getattr(function, "__code__", None)):
        if name not in known:
            continue
        value = known[name]
        if isinstance(value, ModuleType):
            imports.append(f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}"))
        elif str(getattr(value, "__module__", "")).partition(".")[0] in sys.stdlib_module_names and callable(value):
            imports.append(f"from {value.__module__} import {name}")
        else:
            others.append(name)
    return tuple(imports), tuple(others)


def _names(code: Any) -> Iterator[str]:
    if code is None:
        return
    yield from code.co_names
    for inner in code.co_consts:
        if inspect.iscode(inner):
            yield from _names(inner)
