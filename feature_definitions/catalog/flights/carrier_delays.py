"""How late a carrier's flights land."""

from feature_definitions import Derived, Feature, WindowedGroup, at_least, between

from .sources import arrivals, carrier

carrier_delays = WindowedGroup(
    "carrier_delays", carrier, arrivals, every="1d", ttl="2d", owner="flights",
    features=(
        Feature("landings", "count", windows=("1d", "7d", "30d"), expect=(at_least(0),)),
        Feature("delayed", "count", where="arrival_delay > 15", windows=("1d", "7d", "30d")),
        Feature("arrival_delay", "mean", "arrival_delay", windows=("1d", "7d", "30d")),
        Derived("late_share_7d", "delayed_7d / landings_7d", expect=(between(0, 1),)),
        Derived("late_share_30d", "delayed_30d / landings_30d", expect=(between(0, 1),)),
    ),
)  # fmt: skip
