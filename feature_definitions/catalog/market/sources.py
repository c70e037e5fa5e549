"""What is known of a trading day, and when: all of it at the closing bell in New York.

`adj_close` is rewritten by every later split and dividend, so its level tells the future; the ratio of two of them does not, since what
came later is a factor of both. Models read ratios only.
"""

from feature_definitions import Entity, Files, Source, expression

symbol = Entity("symbol", keys={"symbol": "string"})

_PRICES = dict.fromkeys(("open", "high", "low", "close", "adj_close"), "double")

bars = Source(
    "bars",
    Files("data/bars/*.csv"),
    columns={"symbol": "string", "closed_at": "timestamp", **_PRICES, "volume": "int64"},
    event_timestamp="closed_at",
    timezone="UTC",
    id=("symbol", "closed_at"),
    derive={"change": "adj_close / prev.adj_close - 1", "traded": "(high + low + close) / 3 * volume"},
    lag_over=("symbol",),
    lag_within="10d",
    expect=(expression("close > 0 AND adj_close > 0"),),
)

outlooks = Source(
    "outlooks",
    Files("data/outlooks/*.csv"),
    columns={"symbol": "string", "asked_at": "timestamp", "rises": "boolean"},
    event_timestamp="asked_at",
    timezone="UTC",
    id=("symbol", "asked_at"),
)
"""The question at the midnight (UTC) after a trading day, whether the price will be higher five trading days later, and the answer."""
