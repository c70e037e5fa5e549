"""Windows slide along tiles as a loop over every time and every tile says, however tiles come."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spark_jobs.compute import slides
from spark_jobs.compute.slides import Merged, Slide
from tests.spark_jobs.compute.test_folds import moments, total, variance

MOST = 10**38 - 1
EVENT = pa.struct({"at": pa.int64(), "id": pa.string(), "v": pa.float64()})
MOMENTS = pa.list_(pa.struct({"n": pa.int64(), "mean": pa.float64(), "spread": pa.float64()}))
ROWS = {kind: pa.list_(pa.struct({"at": pa.int64(), "value": of})) for kind, of in (("rows", pa.float64()), ("texts", pa.string()))}
DOUBLES = st.floats(-1e30, 1e30)


def lists(element: dict[str, Any], most: int) -> Any:
    return st.lists(st.fixed_dictionaries(element), max_size=most)


PARTS = {
    "moments": (MOMENTS, lists({"n": st.integers(1, 3), "mean": DOUBLES, "spread": st.floats(0, 1e30)}, 1)),
    "rows": (ROWS["rows"], lists({"at": st.just(0), "value": st.none() | DOUBLES}, 3)),
    "texts": (ROWS["texts"], lists({"at": st.just(0), "value": st.none() | st.text("aé", max_size=2)}, 3)),
    "whole": (pa.int64(), st.integers(-(2**62), 2**62)),
    "exact": (pa.decimal128(38, 18), st.integers(-(10**36), 10**36).map(lambda n: Decimal(n).scaleb(-18))),
    "squares": (pa.decimal128(38, 0), st.integers(0, MOST).map(Decimal)),
    "double": (pa.float64(), DOUBLES),
    "text": (pa.string(), st.text("aé", max_size=2)),
    "event": (
        EVENT,
        st.fixed_dictionaries(
            {"at": st.integers(0, 2), "id": st.none() | st.sampled_from("ab"), "v": st.floats(0, 1)},
        ),
    ),
}
HOWS = {
    "whole": ("sum", "min"),
    "exact": ("sum", "max"),
    "squares": ("sum at most",),
    "double": ("sum", "max", "min"),
    "text": ("max",),
    "event": ("max", "min"),
}
MERGED = tuple(
    Merged(f"{part}:{how}:{cadences}", part, how, cadences, cadences is not None and part in ("whole", "exact") and how == "sum")  # type: ignore[arg-type]  # from a table
    for part, hows in HOWS.items()
    for how in hows
    for cadences in (1, 2, 5, None)
)
FOLDED: dict[str, dict[Any, pa.DataType]] = {
    "moments": {"moments": pa.float64()},
    "rows": {"number": pa.int64(), "total": pa.float64(), "spread": pa.float64(), "values": pa.list_(pa.float64())},
    "texts": {"number": pa.int64(), "values": pa.list_(pa.string())},
}
MERGED += tuple(Merged(f"{part}:{how}:{n}", part, how, n, most=3) for part, hows in FOLDED.items() for how in hows for n in (1, 2, 5))
CADENCE, END = 10, 200
TILE = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in PARTS.items()})
TILES = st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 19)), TILE, max_size=12)


def ranked(value: Any) -> Any:
    return (value["at"], value["id"] or "", value["v"]) if isinstance(value, dict) else value


def folded(each: Merged, lists: list[list[Any]]) -> Any:
    """Of lists, the oldest first."""
    if each.how == "moments":
        return variance([part for some in lists for part in some])
    newest = [row for some in reversed(lists) for row in some][: each.most]
    values = [row["value"] for row in newest if row["value"] is not None]
    match each.how:
        case "number":
            return len(values)
        case "total":
            return total(sorted(values))
        case "spread":
            return variance([moments(sorted(values))]) if values else None
    return values


def merged(each: Merged, window: list[Any], ever: list[Any]) -> Any:
    if each.part in FOLDED:
        return folded(each, [tile[each.part] or [] for tile in window])
    values, before = ([tile[each.part] for tile in tiles if tile[each.part] is not None] for tiles in (window, ever))
    if not (before if each.told_ever else values):
        return None
    if each.how in ("min", "max"):
        return (max if each.how == "max" else min)(values, key=ranked)
    added = 0.0 if each.part == "double" else 0
    for value in values:
        added += value
    if each.part == "whole":
        return (added + 2**63) % 2**64 - 2**63
    return min(added, MOST) if each.how == "sum at most" else added


def by_hand(tiles: dict[tuple[str, int, int], dict[str, Any]], of: Slide) -> list[dict[str, Any]]:
    found = []
    for entity in sorted({key[:2] for key in tiles}):
        mine = [(place * CADENCE, tile) for (*key, place), tile in sorted(tiles.items(), key=lambda each: each[0]) if tuple(key) == entity]
        for at in range(0, END, CADENCE):
            before = [(start, tile) for start, tile in mine if start <= at]
            reached = before and (of.reach is None or at < before[-1][0] + of.reach)
            if reached and any(start <= at < end for start, end in of.spans):
                row: dict[str, Any] = {"a": entity[0], "b": entity[1], "at": at + CADENCE}
                for each in of.merged:
                    window = [tile for start, tile in before if each.cadences is None or start > at - each.cadences * CADENCE]
                    row[each.name] = merged(each, window, [tile for _, tile in before])
                found.append(row)
    return found


NOTHING = dict.fromkeys(PARTS)
LONG_BEFORE = {(entity, 0, 0): NOTHING | {"whole": n, "exact": Decimal(n), "double": float(n)} for n, entity in enumerate("abcd", 1)}
SPANS = [((50, 80), (120, END)), ((0, END),), ((170, END),)]


@given(TILES, st.sampled_from([60, None]), st.sampled_from(SPANS), st.sampled_from([1, 3, 100]))
@example(LONG_BEFORE, None, SPANS[-1], 100)
def test_every_time_has_what_its_windows_hold(
    tiles: dict[tuple[str, int, int], dict[str, Any]], reach: int | None, spans: tuple[tuple[int, int], ...], size: int
) -> None:
    kinds = {name: kind for name, (kind, _) in PARTS.items()}
    made = {each.name: FOLDED.get(each.part, {}).get(each.how, kinds[each.part]) for each in MERGED}
    schema = pa.schema({"a": pa.string(), "b": pa.int64(), "at": pa.int64()} | made)
    of = Slide(("a", "b"), "tile", CADENCE, reach, spans, MERGED, schema)
    rows = [{"a": a, "b": b, "tile": place * CADENCE, **parts} for (a, b, place), parts in sorted(tiles.items(), key=lambda each: each[0])]
    given_tiles = pa.Table.from_pylist(rows, pa.schema({"a": pa.string(), "b": pa.int64(), "tile": pa.int64()} | kinds))
    with localcontext() as exact, pytest.MonkeyPatch.context() as patched:
        exact.prec = 80
        patched.setattr(slides, "AT_ONCE", size)
        found = pa.Table.from_batches(slides.slid(given_tiles.to_batches(max_chunksize=2), of), schema).to_pylist()
        assert found == by_hand(tiles, of)


def test_no_tiles_give_no_rows() -> None:
    schema = pa.schema({"a": pa.int64(), "at": pa.int64()})
    tiles = pa.schema({"a": pa.int64(), "tile": pa.int64()}).empty_table().to_batches()
    assert list(slides.slid(tiles, Slide(("a",), "tile", CADENCE, None, ((0, END),), (), schema))) == []
