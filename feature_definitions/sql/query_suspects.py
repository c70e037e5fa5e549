"""The parts of a query that may have stopped it: each over the columns of one table, with the condition under which it fails there."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sqlglot import exp

from feature_definitions.language import DefinitionError
from feature_definitions.sql.expressions import in_spark
from feature_definitions.sql.failing import made_safe
from feature_definitions.sql.nodes import all_of, is_true
from feature_definitions.sql.queries import parse_query
from feature_definitions.sql.query_rows import Tables, sees_many
from feature_definitions.sql.syntax import SQL, column_name

_PLACES = ("expressions", "joins", "where", "group", "having")
"""Where the expressions of a query stand."""


class Suspect(NamedTuple):
    """A part of a query that fails for some rows of one table: as it is written, what it reads there, and when it fails."""

    table: str
    sql: str
    reads: tuple[str, ...]
    fails: str


def suspects(sql: str, tables: Tables) -> tuple[Suspect, ...]:
    """The parts of a query, each over the columns of one table, that fail for some of its rows."""
    tree = parse_query(sql)
    within = {cte.alias for cte in tree.find_all(exp.CTE)}
    given = {name: columns for name, columns in tables.items() if name not in within}
    return tuple(dict.fromkeys(found for select in tree.find_all(exp.Select) for found in _suspects_of(select, given, sql)))


def _suspects_of(select: exp.Select, tables: Tables, sql: str) -> Iterator[Suspect]:
    owners, where = _owners(select, tables), select.args.get("where")
    for place in _PLACES:
        held = select.args.get(place)
        for root in held if isinstance(held, list) else [held] if held is not None else []:
            for piece, table in _pieces(root, owners):
                kept = None if where is None or place in ("where", "joins") else where.this
                found = _suspect(piece, kept if kept is not None and _table_of(kept, owners) == table else None, table, tables, sql)
                if found is not None:
                    yield found


def _owners(select: exp.Select, tables: Tables) -> dict[str, str]:
    """The table of each column that a query can name, in small letters, if it is one of those given."""
    origin, joins = select.args.get("from_"), select.args.get("joins") or []
    read = [each.this for each in ([origin] if origin is not None else []) + joins]
    known = {each.alias_or_name: each.name for each in read if isinstance(each, exp.Table) and each.name in tables}
    found = {f"{alias}.{name}".casefold(): table for alias, table in known.items() for name in tables[table]}
    if len(known) == len(read):
        found |= {name.casefold(): table for table in known.values() for name in tables[table]}
    return found


def _table_of(node: exp.Expr, owners: Mapping[str, str]) -> str | None:
    """The one table whose columns a tree reads."""
    read = {owners.get(column_name(column).casefold()) for column in node.find_all(exp.Column)}
    return read.pop() if len(read) == 1 else None


def _pieces(node: exp.Expr, owners: Mapping[str, str]) -> Iterator[tuple[exp.Expr, str]]:
    """The largest parts of a tree that read one row of one table, with that table."""
    if isinstance(node, exp.Query | exp.Column):
        return
    table = _table_of(node, owners)
    whole = not any(sees_many(each) or isinstance(each, exp.Query) for each in node.walk())
    if table is not None and whole and isinstance(node, exp.Condition):
        yield node, table
        return
    for child in node.iter_expressions():
        yield from _pieces(child, owners)


def _suspect(piece: exp.Expr, where: exp.Expr | None, table: str, tables: Tables, sql: str) -> Suspect | None:
    """A part that fails for some row of its table, of those that the WHERE keeps if it is of the same table; None if it cannot."""
    own = _unqualified(piece, tables[table])
    try:
        safe = made_safe(own, tables[table], sql)
        kept = [] if where is None else [is_true(made_safe(_unqualified(where, tables[table]), tables[table], sql).value)]
    except DefinitionError:  # operands of which only Spark knows what they give
        return None
    fails = None if safe.fails is None else all_of([safe.fails, *kept])
    reads = tuple(dict.fromkeys(column.name for column in own.find_all(exp.Column)))
    return None if fails is None else Suspect(table, piece.sql(SQL, normalize_functions=False), reads, in_spark(sql, fails))


def _unqualified(tree: exp.Expr, columns: Mapping[str, str]) -> exp.Expr:
    """A copy of a tree that reads one table, whose columns are written as they are known."""
    known, made = {name.casefold(): name for name in columns}, exp.Paren(this=tree.copy())
    for column in list(made.find_all(exp.Column)):
        column.replace(exp.column(known[column.name.casefold()]))
    unwrapped: exp.Expr = made.this
    return unwrapped
