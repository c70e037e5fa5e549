"""The weather at an airport, as last observed."""

from feature_definitions import ObservationGroup, expression

from .sources import origin, weather

weather_at_origin = ObservationGroup(
    "weather_at_origin", origin, weather, every="1h", ttl="6h", owner="flights",
    columns=("temp", "humid", "wind_speed", "precip", "pressure", "visib"),
    expect=(expression("wind_speed < 200"), expression("visib >= 0")),
)  # fmt: skip
