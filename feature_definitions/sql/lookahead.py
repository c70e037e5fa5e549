"""Whether a query's rows may hold what came after their time: by windows that reach ahead, joins, groups, conditions on other rows."""

from collections.abc import Iterator

from sqlglot import exp

from feature_definitions.language import DefinitionError, Query
from feature_definitions.sql.functions import OF_MANY_ROWS
from feature_definitions.sql.queries import parse_query
from feature_definitions.sql.syntax import call_name

_OF_ALL_ROWS = frozenset({"lead", "ntile", "percent_rank", "cume_dist"})
"""Functions of windows whose value depends on the rows behind, whatever the frame."""


def looks_ahead(query: Query) -> tuple[str, ...]:
    """Why a row of a query may hold what came after its time, a reason each; none where it cannot, or where the query is wrong."""
    try:
        tree = parse_query(query.sql)
    except DefinitionError:
        return ()
    times = {str(source.event_timestamp) for source in query.sources if source.event_timestamp is not None}
    timed = {source.name for source in query.sources if source.shape != "static"}
    return tuple(dict.fromkeys([*_windows(tree, times), *_joins(tree, timed), *_groups(tree), *_conditions(tree, timed)]))


def _windows(tree: exp.Query, times: set[str]) -> Iterator[str]:
    for window in tree.find_all(exp.Window):
        if not _is_of_the_past(window, times):
            yield f"has a window of rows that may come after ({_named(window.this)})"


def _is_of_the_past(window: exp.Window, times: set[str]) -> bool:
    """Whether a window is ordered by an event's time and ends at the row itself, as it does without a frame."""
    order, spec = window.args.get("order"), window.args.get("spec")
    first = order.expressions[0] if order is not None else None
    by_time = first is not None and not first.args.get("desc") and isinstance(first.this, exp.Column) and first.this.name in times
    ahead = spec is not None and spec.args.get("end_side") == "FOLLOWING"
    return bool(by_time and not ahead and _named(window.this) not in _OF_ALL_ROWS)


def _joins(tree: exp.Query, timed: set[str]) -> Iterator[str]:
    """The joins of rows that have times: those of one side may be later than what the row says."""
    for select in tree.find_all(exp.Select):
        joined = [select.args.get("from_"), *(select.args.get("joins") or [])]
        names = [_tables(each, timed) for each in joined if each is not None]
        found = sorted(name for each in names for name in each)
        if sum(bool(each) for each in names) > 1:
            yield f"joins {' and '.join(dict.fromkeys(found))}{' with itself' if len(set(found)) == 1 else ''}"


def _tables(part: exp.Expr, timed: set[str]) -> set[str]:
    """The tables with times that a part of a FROM reads, also by way of a name given by WITH."""
    root, names = part.root(), {table.name for table in part.find_all(exp.Table)}
    ctes = {cte.alias: cte for cte in root.find_all(exp.CTE)}
    return (names & timed).union(*(_tables(ctes[name], timed) for name in names & ctes.keys()))


def _groups(tree: exp.Query) -> Iterator[str]:
    """The aggregates over groups of rows, of which the latest may be later than what the row says."""
    for call in tree.find_all(exp.Func):
        outer = call.parent.parent if isinstance(call.parent, exp.Filter) else call.parent
        if _named(call) in OF_MANY_ROWS and not isinstance(outer, exp.Window):
            yield f"puts rows together ({_named(call)})"


def _conditions(tree: exp.Query, timed: set[str]) -> Iterator[str]:
    """The conditions and columns that ask other rows."""
    for asked in tree.find_all(exp.Exists, exp.In, exp.Subquery):
        inner = asked.args.get("query") if isinstance(asked, exp.In) else asked.this
        if inner is not None and not isinstance(asked.parent, exp.From | exp.Join | exp.In) and _tables(inner, timed):
            yield f"asks other rows ({' and '.join(sorted(_tables(inner, timed)))})"


def _named(call: exp.Expr) -> str:
    call = call.this if isinstance(call, exp.Filter) else call
    return call_name(call).lower()
