"""A draft of our definitions from what a repository of Feast's has: plain records in, the text of a catalog's file out. Knows no Feast."""

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from feature_definitions.intervals import duration
from feature_definitions.language.rules import COLUMN

FOREVER = "3650d"
"""The TTL of a view that has none: a group of observations says how old a value may be."""

_WIDTH = 120
_CADENCES = ("1d", "12h", "6h", "3h", "1h", "30m", "15m", "5m")


class FeastSource(NamedTuple):
    """A source: what stands for its place in our words, its columns by our names with type and name in the data, and its times."""

    name: str
    at: str
    columns: Mapping[str, tuple[str, str]]
    keys: tuple[str, ...]
    time: str
    created: str | None
    said: str = ""


class FeastView(NamedTuple):
    """A feature view: the keys of its entity with their types, its features, and its TTL in our words (None: for ever)."""

    name: str
    entity: str
    keys: Mapping[str, str]
    source: str
    features: tuple[str, ...]
    ttl: str | None
    online: bool = True
    owner: str = ""
    tags: tuple[str, ...] = ()
    said: str = ""


class FeastFunction(NamedTuple):
    """An on-demand view: its function's source and how that takes its inputs, the columns of views and the fields that it reads.

    `mode` is pandas (a frame), python (lists by name) or singleton (values by name); `imports` are lines that the source needs.
    """

    name: str
    source: str
    function: str
    mode: str
    reads: tuple[tuple[str, str, str], ...]
    requests: Mapping[str, str]
    outputs: Mapping[str, str]
    imports: tuple[str, ...] = ()
    owner: str = ""
    tags: tuple[str, ...] = ()


class FeastJoin(NamedTuple):
    """A view in a service: the features that are asked for, its name there, and the columns of callers for its keys."""

    view: str
    features: tuple[str, ...]
    prefix: str | None
    on: Mapping[str, str]


class FeastService(NamedTuple):
    """A feature service: its views and its on-demand views, each of these with the features asked for."""

    name: str
    joins: tuple[FeastJoin, ...]
    functions: tuple[tuple[str, tuple[str, ...]], ...]


class FeastContents(NamedTuple):
    """What a repository has, as far as it can be said here; `left_out` says the rest, a sentence each."""

    project: str
    sources: tuple[FeastSource, ...]
    views: tuple[FeastView, ...]
    functions: tuple[FeastFunction, ...]
    services: tuple[FeastService, ...]
    left_out: tuple[str, ...]


def text(of: FeastContents) -> str:
    """The file of a catalog: read it, correct it, check it."""
    names = _Names(of)
    parts = [*_entities(of, names), *(_source(each, names) for each in of.sources), *(_group(each, names) for each in of.views)]
    functions = [_VALUES, *(part for each in of.functions for part in _function(each, names))] if of.functions else []
    services = [_service(each, of, names) for each in of.services]
    body = ["\n".join(parts), *(part.strip("\n") for part in functions), "\n".join(services)]
    return _heading(of) + "\n\n\n".join(part for part in body if part) + "\n"


_VALUES = '''def _values(given):
    """A column as a function of Feast's gets it: numbers that are null are NaN."""
    return [float("nan") if value is None else value for value in given.tolist()]
'''


class _Names:
    """The Python names of definitions, each once in the file, and the names of on-demand features, each once in the catalog."""

    def __init__(self, of: FeastContents) -> None:
        self._taken = set(_WORDS)
        self._of: dict[tuple[str, str], str] = {}
        outputs = [output for each in of.functions for output in each.outputs]
        self._twice = {output for output in outputs if outputs.count(output) > 1}

    def variable(self, kind: str, name: str) -> str:
        """The variable of a definition."""
        if (kind, name) not in self._of:
            wanted = plain(name)
            while wanted in self._taken:
                wanted += f"_{kind}"
            self._taken.add(wanted)
            self._of[kind, name] = wanted
        return self._of[kind, name]

    def feature(self, function: FeastFunction, output: str) -> str:
        """The name of a feature that a function gives."""
        return plain(f"{function.name}_{output}" if output in self._twice else output)


_WORDS = ("entity", "source", "group", "service", "pd", "np")


def plain(name: str) -> str:
    """A name of ours: small letters, digits and single underscores."""
    found = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", name.lower())).strip("_")[:60]
    return found if re.match(r"[a-z]", found) else f"from_{found}"


def cadence(ttl: str | None) -> str:
    """The longest cadence that a TTL allows: values must not be out of date before the next ones come."""
    span = duration(ttl or FOREVER)
    return next((each for each in _CADENCES if duration(each) <= span), _CADENCES[-1])


def _heading(of: FeastContents) -> str:
    words = {"Entity", "Source"} if of.sources else set()
    words |= {"ObservationGroup"} if of.views else set()
    words |= {"FeatureService", "Join"} if of.services else set()
    words |= {"OnDemandFeature"} if of.functions else set()
    words |= {"Ref"} if any(each.reads for each in of.functions) else set()
    words |= {"Request"} if any(each.requests for each in of.functions) else set()
    words |= {each.at.partition("(")[0] for each in of.sources}
    words |= {"Column"} if any(name != mine for each in of.sources for mine, (_, name) in each.columns.items()) else set()
    imports = [line for each in of.functions for line in each.imports]
    remarks = "".join(_remark(f"Not here: {sentence}.") for sentence in of.left_out)
    lines = "\n".join([*dict.fromkeys(imports), *([""] if imports else []), f"from feature_definitions import {', '.join(sorted(words))}"])
    said = f"The Feast repository {of.project} as it was imported: read each definition and correct it, then `headwater check`."
    return f'"""{said}"""\n\n{lines}\n\n{remarks}{chr(10) if remarks else ""}'


def _written(value: object) -> str:
    """A value as Python writes it, in double quotes."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
        case Mapping():
            return f"{{{', '.join(f'{_written(name)}: {_written(each)}' for name, each in value.items())}}}"
    return repr(value)


def _defined(variable: str, kind: str, words: Iterable[str]) -> str:
    """A definition, on one line if it has the room."""
    said = [*words]
    line = f"{variable} = {kind}({', '.join(said)})"
    return line if len(line) <= _WIDTH else f"{variable} = {kind}(\n" + "".join(f"    {each},\n" for each in said) + ")"


def _entities(of: FeastContents, names: _Names) -> Iterable[str]:
    found = {each.entity: each.keys for each in of.views}
    for name, keys in found.items():
        yield _defined(names.variable("entity", name), "Entity", [_written(plain(name)), f"keys={_written(keys)}"])


def _source(of: FeastSource, names: _Names) -> str:
    columns = "".join(f"        {_written(mine)}: {_column(kind, mine, name)},\n" for mine, (kind, name) in of.columns.items())
    created = f"    arrived_at={_written(of.created)},  # of rows with the same id the newest holds, as in Feast\n" if of.created else ""
    return (
        f"{_remark(of.said)}{names.variable('source', of.name)} = Source(\n    {_written(plain(of.name))},\n    {of.at},\n"
        f"    columns={{\n{columns}    }},\n"
        f'    event_timestamp={_written(of.time)},\n    timezone="UTC",  # where times carry no zone Feast takes them for UTC\n'
        f"    id={_written(tuple(dict.fromkeys((*of.keys, of.time))))},\n{created})"
    )


def _column(kind: str, mine: str, name: str) -> str:
    return _written(kind) if mine == name else f"Column({_written(kind)}, {_written(name)})"


def _group(of: FeastView, names: _Names) -> str:
    words = [_written(plain(of.name)), names.variable("entity", of.entity), names.variable("source", of.source)]
    words += [f"columns={_written(of.features)}", f"ttl={_written(of.ttl or FOREVER)}"]
    words += [f"every={_written(cadence(of.ttl))}"] if cadence(of.ttl) != "1d" else []
    words += [f"{word}={_written(value)}" for word, value in (("owner", of.owner), ("tags", of.tags)) if value]
    words += ["online=False"] if not of.online else []
    said = of.said if of.ttl else " ".join(filter(None, (of.said, "Feast's ttl of 0 means for ever.")))
    return _remark(said) + _defined(names.variable("group", of.name), "ObservationGroup", words)


def _remark(said: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(said, _WIDTH - 2))


def _function(of: FeastFunction, names: _Names) -> list[str]:
    """The function as Feast has it, and for each of its features what calls it and the definition."""
    inputs = {f"{view}__{column}": column for view, column, _ in of.reads} | {field: field for field in of.requests}
    parts = [of.source.strip() + "\n"]
    for output, kind in of.outputs.items():
        feature = names.feature(of, output)
        call = names.variable("call", f"call_{feature}")
        reads = [f'Ref("{plain(view)}__{column}")' for view, column, _ in of.reads]
        reads += [f"Request({_written(field)}, {_written(data_type)})" for field, data_type in of.requests.items()]
        words = [_written(feature), f"inputs=({', '.join(reads)},)", f"type={_written(kind)}", f"function={call}"]
        words += ["rows=True"] if of.mode == "singleton" else []
        words += [f"{word}={_written(value)}" for word, value in (("owner", of.owner), ("tags", of.tags)) if value]
        parts.append(f"def {call}({', '.join(inputs.values())}):\n{_called(of, inputs, output)}\n")
        parts.append(_defined(names.variable("feature", feature), "OnDemandFeature", words) + "\n")
    return parts


def _called(of: FeastFunction, inputs: Mapping[str, str], output: str) -> str:
    """The call of a function in its own mode: columns have their short and their full names, as Feast gives them."""
    both = {name: short for full, short in inputs.items() for name in (short, full) if mentions(of.source, name)}
    values = {name: short if of.mode == "singleton" else f"_values({short})" for name, short in both.items()}
    given = "".join(f"        {_written(name)}: {value},\n" for name, value in values.items())
    whole, rest = ("pd.DataFrame(given)", ".to_numpy()") if of.mode == "pandas" else ("given", "")
    return f"    given = {{\n{given}    }}\n    return {of.function}({whole})[{_written(output)}]{rest}"


def mentions(source: str, name: str) -> bool:
    """Whether a function's source names a column."""
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", source) is not None


def _service(of: FeastService, contents: FeastContents, names: _Names) -> str:
    functions = {each.name: each for each in contents.functions}
    chosen = [(functions[name], output) for name, outputs in of.functions if name in functions for output in outputs]
    joins, added = _joins(of, [function for function, _ in chosen], contents)
    version = re.search(r"_v(\d+)$", of.name)
    words = [_written(plain(of.name)), *([f"version={int(version[1])}"] if version and int(version[1]) > 1 else [])]
    words.append(f"joins=({', '.join(_join(each, names) for each in joins)},)")
    if chosen:
        words.append(f"on_demand=({', '.join(names.variable('feature', names.feature(*each)) for each in chosen)},)")
    offline = {each.name for each in contents.views if not each.online}
    words += ["online=False"] if any(each.view in offline for each in joins) else []
    said = f"Feast joins {', '.join(added)} for the features on demand alone; here it is answered too." if added else ""
    return _remark(said) + _defined(names.variable("service", of.name), "FeatureService", words)


def _joins(of: FeastService, functions: Iterable[FeastFunction], contents: FeastContents) -> tuple[list[FeastJoin], list[str]]:
    """The joins of a service with the columns that its functions read, and which of these it does not ask for itself."""
    joins, added = [*of.joins], list[str]()
    wanted = dict.fromkeys((view, column) for function in functions for view, column, _ in function.reads)
    for view, column in wanted:
        place = next((n for n, each in enumerate(joins) if each.view == view and each.prefix is None), None)
        if place is None:
            joins.append(FeastJoin(view, (column,), None, {}))
            added.append(f"{view}:{column}")
        elif column not in joins[place].features:
            joins[place] = joins[place]._replace(features=(*joins[place].features, column))
            added.append(f"{view}:{column}")
    known = {each.name for each in contents.views}
    return [each for each in joins if each.view in known], added


def _join(of: FeastJoin, names: _Names) -> str:
    more = [] if of.prefix is None else [f"prefix={_written(plain(of.prefix))}"]
    more += [f"on={_written(of.on)}"] if of.on else []
    return f"Join({', '.join([names.variable('group', of.view), _written(of.features), *more])})"


def is_column(name: str) -> bool:
    """Whether a column can have its name here too."""
    return COLUMN.fullmatch(name) is not None and not name.startswith("_hw_")
