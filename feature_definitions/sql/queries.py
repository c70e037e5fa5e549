"""Whole queries over named tables: what they read and give, and how Spark is to run them; refused as expressions are."""

from collections.abc import Mapping

from sqlglot import exp
from sqlglot.errors import SqlglotError

from feature_definitions.language import DefinitionError
from feature_definitions.language.rules import closest
from feature_definitions.sql.constants import refuse_constants
from feature_definitions.sql.expressions import PLAIN, in_spark, is_odd, refuse_call, refuse_clock_words, refuse_column
from feature_definitions.sql.functions import OF_GROUPS, OF_MANY_ROWS
from feature_definitions.sql.syntax import SQL, call_name, cast_type, first_line, too_deep

_OF_QUERIES = {
    *PLAIN,
    *(exp.Select, exp.From, exp.Where, exp.Join, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Alias, exp.Table, exp.TableAlias),
    *(exp.With, exp.CTE, exp.Subquery, exp.Exists, exp.Union, exp.Intersect, exp.Except),
    *(exp.Star, exp.Distinct, exp.Filter, exp.Window, exp.WindowSpec),
}
_SQL_TYPES = {"int64": "bigint"}


def query_outputs(sql: str, tables: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """The columns that a query gives, in order; refuses what is not one deterministic SELECT over these tables and their columns."""
    tree = parse_query(sql)
    _refuse_tables(sql, tree, tables)
    if any("date" in data_type or "timestamp" in data_type for columns in tables.values() for data_type in columns.values()):
        refuse_clock_words(sql, tree)
    _refuse_unknown_columns(sql, tree, tables)
    outputs = tuple(tree.named_selects)
    for name in outputs:
        if not name or name == "*":
            raise DefinitionError(f"{_short(sql)} has an output column without a name; name each, like count(*) AS payments")
        if outputs.count(name) > 1:
            raise DefinitionError(f"{_short(sql)} has the output column {name!r} twice; rename one")
    return outputs


def query_tables(sql: str) -> frozenset[str]:
    """The names of all tables that a query reads, but for those that it makes itself."""
    tree = parse_query(sql)
    return frozenset(table.name for table in tree.find_all(exp.Table)) - {cte.alias for cte in tree.find_all(exp.CTE)}


def query_reads(sql: str) -> frozenset[str]:
    """The names of all columns that a query reads, of whichever table."""
    return frozenset(column.name for column in parse_query(sql).find_all(exp.Column))


def query_sql(sql: str) -> str:
    """A query for Spark in ANSI mode: division by zero is null, columns and tables are quoted."""
    return in_spark(sql, parse_query(sql))


def parse_query(sql: str) -> exp.Query:
    """The query's tree; refuses what is not one deterministic SELECT."""
    try:
        trees = [tree for tree in SQL.parse(sql) if tree is not None]
    except SqlglotError as error:
        raise DefinitionError(f"{_short(sql)} is not Spark SQL: {first_line(error)}") from None
    except RecursionError:
        raise too_deep(sql) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query) or isinstance(trees[0], exp.Subquery):
        raise DefinitionError(f"{_short(sql)} is not one SELECT; write a single query, like SELECT id, amount FROM payments")
    for node in trees[0].walk():
        _refuse_in_query(sql, node)
    return trees[0]


def _refuse_in_query(sql: str, node: exp.Expr) -> None:
    match node:
        case exp.Anonymous():
            _refuse_call_in_query(sql, node)
        case exp.Column():
            refuse_column(sql, node, frozenset({node.table}))
        case exp.Cast() | exp.TryCast():
            cast_type(sql, node)
        case exp.RegexpLike() | exp.Like() | exp.ILike():
            refuse_constants(node, _short(sql))
        case exp.Star() if not isinstance(node.parent, exp.Anonymous):
            raise DefinitionError(f"{_short(sql)} has a star, so its columns would follow its sources'; name the columns")
        case exp.Limit() | exp.Offset() | exp.TableSample():
            what = type(node).__name__.upper()
            raise DefinitionError(
                f"{_short(sql)} has a {what}, so which rows it gives is left to chance; write a condition, like rank() <= 3"
            )
    if type(node) not in _OF_QUERIES or (not isinstance(node, exp.In) and is_odd(node)):
        raise DefinitionError(f"{_short(sql)} has {node.sql(SQL)!r} ({type(node).__name__}), which queries do not know; leave it out")


def _refuse_call_in_query(sql: str, call: exp.Anonymous) -> None:
    name = call_name(call)
    if name in OF_GROUPS:
        return
    if name in OF_MANY_ROWS:
        raise DefinitionError(
            f"{_short(sql)}: {name}() depends on the order of rows that are equal, so its result is not the same every time; "
            "write min, max or rank"
        )
    refuse_call(sql, call)
    refuse_constants(call, _short(sql))


def _refuse_tables(sql: str, tree: exp.Query, tables: Mapping[str, Mapping[str, str]]) -> None:
    within = {cte.alias for cte in tree.find_all(exp.CTE)}
    read = set()
    for table in tree.find_all(exp.Table):
        name = table.sql(SQL) if table.db or not isinstance(table.this, exp.Identifier) else table.name
        read.add(name)
        if name not in tables and name not in within:
            raise DefinitionError(
                f"{_short(sql)} reads {name!r}, which is not among its sources.{closest(name, tables)} They are: {', '.join(tables)}"
            )
    if unread := [name for name in tables if name not in read]:
        raise DefinitionError(f"{_short(sql)} does not read {unread[0]!r}, which is among its sources; remove it there")


def _refuse_unknown_columns(sql: str, tree: exp.Query, tables: Mapping[str, Mapping[str, str]]) -> None:
    from sqlglot.optimizer.qualify import qualify

    schema: dict[str, object] = {
        table: {name: _SQL_TYPES.get(data_type, data_type) for name, data_type in columns.items()} for table, columns in tables.items()
    }
    try:
        qualify(tree.copy(), schema=schema, dialect=SQL, expand_stars=False, quote_identifiers=False, identify=False)
    except SqlglotError as error:
        known = "; ".join(f"{table} has: {', '.join(sorted(columns))}" for table, columns in tables.items())
        raise DefinitionError(f"{_short(sql)}: {first_line(error).rstrip('.')}. {known}") from None


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return f"the query {line if len(line) <= 60 else line[:57] + '...'!r}"
