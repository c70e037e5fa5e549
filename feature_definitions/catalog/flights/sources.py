"""What is known of flights, and when: scheduled long before, departed at `departed_at`, landed at `landed_at`."""

from feature_definitions import Entity, Files, Source

carrier = Entity("carrier", keys={"carrier": "string"})
origin = Entity("origin", keys={"origin": "string"})
aircraft = Entity("aircraft", keys={"tailnum": "string"})

_FLIGHT = {
    "flight_id": "string",
    "carrier": "string",
    "flight": "int64",
    "tailnum": "string",
    "origin": "string",
    "dest": "string",
}

departures = Source(
    "departures",
    Files("data/departures/*.csv"),
    columns={**_FLIGHT, "scheduled_departure": "timestamp", "departed_at": "timestamp", "departure_delay": "int64"},
    event_timestamp="departed_at",
    timezone="UTC",
    id=("flight_id",),
)

arrivals = Source(
    "arrivals",
    Files("data/arrivals/*.csv"),
    columns={
        **_FLIGHT,
        "departed_at": "timestamp",
        "landed_at": "timestamp",
        "arrival_delay": "int64",
        "air_time": "int64",
        "distance": "int64",
    },
    event_timestamp="landed_at",
    timezone="UTC",
    id=("flight_id",),
)

weather = Source(
    "weather",
    Files("data/weather/*.csv"),
    columns={
        "origin": "string",
        "observed_at": "timestamp",
        "temp": "double",
        "humid": "double",
        "wind_speed": "double",
        "precip": "double",
        "pressure": "double",
        "visib": "double",
    },
    event_timestamp="observed_at",
    timezone="UTC",
    id=("origin", "observed_at"),
)

planes = Source(
    "planes",
    Files("data/planes/*.csv"),
    columns={"tailnum": "string", "year": "int64", "manufacturer": "string", "engines": "int64", "seats": "int64", "engine": "string"},
    shape="static",
    id=("tailnum",),
)

scheduled_flights = Source(
    "scheduled_flights",
    Files("data/scheduled_flights/*.csv"),
    columns={**_FLIGHT, "scheduled_departure": "timestamp", "predict_at": "timestamp", "arrival_delay": "int64", "late": "boolean"},
    event_timestamp="predict_at",
    timezone="UTC",
    id=("flight_id",),
)
