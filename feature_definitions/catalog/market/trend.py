"""Where a price stands beside its averages and its peak. `vwap` is the mean typical price by volume: daily bars have no single trades."""

from feature_definitions import Derived, Feature, Rows, WindowedGroup

from .sources import bars, symbol

trend = WindowedGroup(
    "trend", symbol, bars, every="1d", ttl="5d", owner="market",
    features=(
        Feature("adj_close", "last", "adj_close", windows=("10d",)),
        Feature("average", "mean", "adj_close", windows=("20d", Rows(20, within="60d"), Rows(200, within="400d"))),
        Feature("peak", "max", "adj_close", windows=("365d",)),
        Feature("close", "last", "close", windows=("10d",)),
        Feature("traded", "sum", "traded", windows=("20d",)),
        Feature("volume", "sum", "volume", windows=("20d",)),
        Derived("vwap_20d", "traded_20d / volume_20d"),
        Derived("above_vwap", "close_10d / vwap_20d - 1"),
        Derived("above_average", "adj_close_10d / average_20rows - 1"),
        Derived("above_long_average", "adj_close_10d / average_200rows - 1"),
        Derived("drawdown", "adj_close_10d / peak_365d - 1"),
    ),
)  # fmt: skip
