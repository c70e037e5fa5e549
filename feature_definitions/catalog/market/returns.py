"""What a share returned from one close to the next, and how much that varies."""

from feature_definitions import Feature, Rows, WindowedGroup, between

from .sources import bars, symbol

returns = WindowedGroup(
    "returns", symbol, bars, every="1d", ttl="5d", owner="market",
    features=(
        Feature("change", "last", "change", windows=("4d",), expect=(between(-0.6, 0.6),)),
        Feature("mean_change", "mean", "change", windows=("20d", Rows(20, within="60d"))),
        Feature("volatility", "stddev", "change", windows=(Rows(20, within="60d"), "365d")),
        Feature("falls", "count", where="change < -0.02", windows=("90d",)),
    ),
)  # fmt: skip
