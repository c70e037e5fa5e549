"""What an aircraft did lately: it cannot leave before it has landed."""

from feature_definitions import Feature, WindowedGroup, at_least

from .sources import aircraft, arrivals

aircraft_history = WindowedGroup(
    "aircraft_history", aircraft, arrivals, every="1d", ttl="2d", owner="flights",
    features=(
        Feature("landings", "count", windows=("1d", "7d", "30d")),
        Feature("arrival_delay", "mean", "arrival_delay", windows=("7d", "30d")),
        Feature("arrival_delay_spread", "stddev", "arrival_delay", windows=("30d",)),
        Feature("last_delay", "last", "arrival_delay", windows=("7d",)),
        Feature("miles", "sum", "distance", windows=("7d",), expect=(at_least(0),)),
    ),
)  # fmt: skip
