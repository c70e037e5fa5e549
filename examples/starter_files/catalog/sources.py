"""Where raw data lies, and what it is about."""

from feature_definitions import Entity, Files, Source

customer = Entity("customer", keys={"customer_id": "int64"})

payments = Source(
    "payments",
    Files("data/payments/*.csv", format="csv"),
    columns={"payment_id": "string", "customer_id": "int64", "amount": "double", "paid_at": "timestamp"},
    event_timestamp="paid_at",
    timezone="UTC",
    id=("payment_id",),
)
