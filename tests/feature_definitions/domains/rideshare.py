"""Rideshare drivers: rides, ratings and hours, joined for two drivers of one trip."""

from feature_definitions import Derived, Entity, Feature, FeatureService, Files, Join, ObservationGroup, Source, WindowedGroup, between

driver = Entity("driver", keys={"driver_id": "int64"})

rides = Source(
    "rides",
    Files("data/rides/*.csv"),
    columns={"driver_id": "int64", "rating": "double", "minutes": "int64", "ended_at": "timestamp", "came_at": "timestamp"},
    event_timestamp="ended_at",
    arrived_at="came_at",
    timezone="Europe/Berlin",
)

history = WindowedGroup(
    "history", driver, rides, every="1h", ttl="2h",
    features=(
        Feature("rides", "count", windows=("1h", "24h", "7d", "lifetime")),
        Feature("rating", "mean", "rating", windows=("7d", "90d"), expect=(between(1, 5),)),
        Feature("minutes", "sum", "minutes", windows=("24h",)),
        Derived("pace", "rides_24h / (minutes_24h / 60)"),
    ),
)  # fmt: skip
latest = ObservationGroup("latest", driver, rides, columns=("rating", "minutes"), ttl="30d", every="1h")

pair = FeatureService(
    "pair", joins=(Join(history, prefix="first"), Join(history, ("rating",), prefix="second", on={"driver_id": "other_id"}))
)
