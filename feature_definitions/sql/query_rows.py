"""Queries that raise in Spark's ANSI mode, made safe where each row that they give comes from one row of each table.

Such a query has a select list over named tables and their joins: no groups, windows, subqueries or DISTINCT. A row for which one of its
expressions fails is given with the reason, the column and the value, and so is one for which nobody knows whether the WHERE holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlglot import exp

from feature_definitions.language import DefinitionError
from feature_definitions.layout import COLUMN, REASON, VALUE
from feature_definitions.sql.expressions import in_spark
from feature_definitions.sql.failing import Failing, made_safe
from feature_definitions.sql.functions import OF_GROUPS
from feature_definitions.sql.nodes import any_of, call, closed
from feature_definitions.sql.queries import parse_query
from feature_definitions.sql.syntax import call_name, column_name

Tables = Mapping[str, Mapping[str, str]]
"""The types of the columns of each table that a query may read."""
_PARTS = {"expressions", "from_", "joins", "where", "order"}
"""What a query may consist of whose rows each come from one row of each table."""


class _Item(NamedTuple):
    """An expression of a query made safe, the column that it gives (None: the WHERE), and what it reads."""

    name: str | None
    safe: Failing
    reads: tuple[str, ...]


def judged_query(sql: str, tables: Tables) -> str | None:
    """The query for Spark, which never raises and says in columns of our own why a row cannot be computed.

    None if it need not be judged, since none of its expressions fails, or cannot be, since a row of it comes from many.
    """
    tree = parse_query(sql)
    if not isinstance(tree, exp.Select) or not _is_of_rows(tree):
        return None
    columns = _columns(tree, tables)
    if columns is None or not _resolved(tree, columns) or any(_joins_fail(tree, columns, sql)):
        return None
    where = tree.args.get("where")
    chosen = None if where is None else _item(None, where.this, columns, sql)
    items = [_item(each.alias_or_name, each.unalias(), columns, sql) for each in tree.expressions]
    failing = [each for each in ([chosen] if chosen else []) + items if each.safe.fails is not None]
    return in_spark(sql, _judged(tree, chosen, items, failing)) if failing else None


# --------------------------------------------------------------------------------------------------------------------- row by row


def _is_of_rows(tree: exp.Select) -> bool:
    nodes = list(tree.walk())
    alone = sum(isinstance(node, exp.Query) for node in nodes) == 1
    return alone and not any(map(sees_many, nodes)) and {name for name, held in tree.args.items() if held} <= _PARTS


def sees_many(node: exp.Expr) -> bool:
    """Whether a node computes one value of many rows."""
    return isinstance(node, exp.Window) or (isinstance(node, exp.Anonymous) and call_name(node) in OF_GROUPS)


def _read(select: exp.Select) -> list[exp.Table] | None:
    """The tables that a query names; None if it reads anything else."""
    origin = select.args.get("from_")
    found = [] if origin is None else [origin.this, *(join.this for join in select.args.get("joins") or [])]
    return found if found and all(isinstance(each, exp.Table) for each in found) else None


def _columns(select: exp.Select, tables: Tables) -> dict[str, str] | None:
    """The types of the columns that a query can name, as `payments.amount` and, where no other table has it, as `amount`."""
    read = _read(select)
    if read is None or any(table.name not in tables for table in read):
        return None
    found: dict[str, str] = {}
    alike = {name.name for join in select.args.get("joins") or [] for name in join.args.get("using") or []}
    for table in read:
        for name, data_type in tables[table.name].items():
            found[f"{table.alias_or_name}.{name}"] = data_type
            is_one = sum(name in tables[each.name] for each in read) == 1
            found |= {name: data_type} if is_one or name in alike else {}
    return found


def _resolved(tree: exp.Select, columns: Mapping[str, str]) -> bool:
    """Write each column as it is known here, and what reads an output of the same list as what that is; whether that could be done."""
    known = {name.casefold(): name for name in columns}
    outputs: dict[str, exp.Expr] = {}
    for item in tree.expressions:
        if not _written(item, known, outputs):
            return False
        outputs[item.alias_or_name.casefold()] = item.unalias()
    others = [part for part in (tree.args.get("where"), *(tree.args.get("joins") or [])) if part is not None]
    return all(_written(part, known, {}) for part in others)


def _written(part: exp.Expr, known: Mapping[str, str], outputs: Mapping[str, exp.Expr]) -> bool:
    for column in list(part.find_all(exp.Column)):
        name = column_name(column).casefold()
        if name in known:
            table, _, own = known[name].rpartition(".")
            column.replace(exp.column(own, table or None))
        elif name in outputs:
            column.replace(exp.Paren(this=outputs[name].copy()))
        else:
            return False
    return True


def _joins_fail(tree: exp.Select, columns: Mapping[str, str], sql: str) -> Iterator[bool]:
    """Of each join, whether its condition fails for some pairs of rows: there is no row to put aside."""
    for join in tree.args.get("joins") or []:
        on = join.args.get("on")
        yield on is not None and _item(None, on, columns, sql).safe.fails is not None


def _item(name: str | None, tree: exp.Expr, columns: Mapping[str, str], sql: str) -> _Item:
    reads = tuple(dict.fromkeys(column_name(column) for column in tree.find_all(exp.Column)))
    try:
        return _Item(name, made_safe(tree, columns, sql), reads)
    except DefinitionError:  # operands of which only Spark knows what they give
        return _Item(name, Failing(tree.copy(), None), reads)


def _judged(tree: exp.Select, chosen: _Item | None, items: Sequence[_Item], failing: Sequence[_Item]) -> exp.Select:
    """The query with safe expressions, and beside them why a row cannot be computed."""
    made = tree.copy()
    told = {REASON: [_reason(each) for each in failing], COLUMN: [_named(each) for each in failing], VALUE: list(map(_value, failing))}
    values = [exp.alias_(each.safe.value, str(each.name), quoted=True) for each in items]
    made.set("expressions", [*values, *(exp.alias_(_first(failing, texts), name, quoted=True) for name, texts in told.items())])
    made.set("order", None)  # rows have none
    if chosen is not None:
        made.set("where", exp.Where(this=any_of([chosen.safe.value, chosen.safe.fails])))
    return made


def _first(failing: Sequence[_Item], texts: Sequence[exp.Expr]) -> exp.Expr:
    """The text of the first expression that fails."""
    return exp.Case(ifs=[exp.If(this=closed(_fails(each)), true=text) for each, text in zip(failing, texts, strict=True)])


def _fails(item: _Item) -> exp.Expr:
    assert item.safe.fails is not None
    return item.safe.fails


def _reason(item: _Item) -> exp.Expr:
    what = "the query's WHERE" if item.name is None else item.name
    return _text(f"{what} cannot be computed from {' and '.join(item.reads) or 'its expression'}")


def _named(item: _Item) -> exp.Expr:
    return exp.cast(exp.Null(), "string") if item.name is None else _text(item.name)


def _value(item: _Item) -> exp.Expr:
    """What an expression reads, as text."""
    texts = [call("coalesce", exp.cast(exp.column(*reversed(name.split(".", 1))), "string"), _text("null")) for name in item.reads]
    if len(texts) == 1:
        return texts[0]
    named = [call("concat", _text(f"{name}="), text) for name, text in zip(item.reads, texts, strict=True)]
    return call("concat_ws", _text(", "), *named)


def _text(value: str) -> exp.Expr:
    return exp.Literal.string(value)
