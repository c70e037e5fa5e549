"""What the model of late arrivals reads, and what it is trained on."""

from feature_definitions import FeatureService, Join, Label, TrainingSet

from .aircraft_history import aircraft_history
from .carrier_delays import carrier_delays
from .origin_congestion import origin_congestion
from .plane_attributes import plane_attributes
from .sources import scheduled_flights
from .weather_at_origin import weather_at_origin

arrival_delay_v1 = FeatureService(
    "arrival_delay_v1",
    version=1,
    joins=(
        Join(carrier_delays, ("arrival_delay", "late_share_7d", "late_share_30d")),
        Join(origin_congestion),
        Join(aircraft_history),
        Join(weather_at_origin),
        Join(plane_attributes, ("year", "engines", "seats")),
    ),
)

arrival_delay = TrainingSet("arrival_delay", spine=scheduled_flights, service=arrival_delay_v1, label=Label("late", horizon="2d"))
