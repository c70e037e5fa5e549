"""What a model of the next five trading days reads: ratios, never prices."""

from feature_definitions import FeatureService, Join, Label, TrainingSet

from .returns import returns
from .sources import outlooks
from .trend import trend

market_v1 = FeatureService(
    "market_v1",
    joins=(Join(returns), Join(trend, ("above_vwap", "above_average", "above_long_average", "drawdown"))),
    defaults={"returns__falls_90d": 0},
)

outlook = TrainingSet("outlook", spine=outlooks, service=market_v1, label=Label("rises", horizon="14d"))
