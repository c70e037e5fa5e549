"""Market bars: returns by lag, moving averages over rows and over days, volatility, VWAP, drawdown."""

from feature_definitions import Derived, Entity, Feature, FeatureService, Files, Join, Rows, Source, WindowedGroup, row_count

symbol = Entity("symbol", keys={"symbol": "string"})

bars = Source(
    "bars",
    Files("data/bars/*.parquet", format="parquet"),
    columns={"symbol": "string", "closed_at": "timestamp", "high": "double", "close": "double", "volume": "int64"},
    event_timestamp="closed_at",
    id=("symbol", "closed_at"),
    derive={"value": "close * volume", "change": "close / prev.close - 1", "jump": "abs(change) > 0.1"},
    lag_over=("symbol",),
    lag_within="10d",
)

trend = WindowedGroup(
    "trend", symbol, bars, ttl="4d", restate_within="10d", expect=(row_count(1, change=0.5),),
    features=(
        Feature("close", "last", "close", windows=("4d",)),
        Feature("average", "mean", "close", windows=("20d", Rows(20, within="60d"), Rows(200, within="400d"))),
        Feature("volatility", "stddev", "change", windows=(Rows(20, within="60d"), "730d")),
        Feature("value", "sum", "value", windows=("20d",)),
        Feature("volume", "sum", "volume", windows=("20d",)),
        Feature("peak", "max", "high", windows=("365d", "lifetime")),
        Feature("jumps", "count", where="jump", windows=("90d",)),
        Derived("vwap", "value_20d / volume_20d"),
        Derived("drawdown", "close_4d / peak_365d - 1"),
    ),
)  # fmt: skip

trading = FeatureService("trading", joins=(Join(trend),), defaults={"trend__jumps_90d": 0})
