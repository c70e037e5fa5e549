"""How busy an airport is, and how late flights leave it, hour by hour."""

from feature_definitions import Derived, Feature, WindowedGroup, between

from .sources import departures, origin

origin_congestion = WindowedGroup(
    "origin_congestion", origin, departures, every="1h", ttl="3h", owner="flights",
    features=(
        Feature("departures", "count", windows=("1h", "3h", "24h")),
        Feature("departure_delay", "mean", "departure_delay", windows=("1h", "3h", "24h"), expect=(between(-60, 1440),)),
        Feature("worst_delay", "max", "departure_delay", windows=("3h",)),
        Feature("delayed", "count", where="departure_delay > 15", windows=("3h",)),
        Feature("carriers", "count_distinct", "carrier", windows=("24h",)),
        Derived("delayed_share_3h", "delayed_3h / departures_3h", expect=(between(0, 1),)),
    ),
)  # fmt: skip
