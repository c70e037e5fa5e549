"""Card fraud: how fast, where, how unusual, and how long since the last payment."""

from feature_definitions import (
    Derived,
    Entity,
    Feature,
    FeatureService,
    Files,
    Join,
    Label,
    Source,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
    at_least,
    between,
    mean_between,
    quantile_between,
)

card = Entity("card", keys={"card_id": "int64"})
merchant = Entity("merchant", keys={"merchant": "string"})

_PAYMENT = {"payment_id": "string", "card_id": "int64", "merchant": "string", "amount": "decimal(12,2)", "paid_at": "timestamp"}

payments = Source(
    "payments",
    Files("data/payments/*.jsonl", format="json"),
    columns={**_PAYMENT, "channel": "string", "tags": "array<string>"},
    event_timestamp="paid_at",
    timezone="UTC",
    id=("payment_id",),
    derive={"at_night": "hour(paid_at) < 6", "tag": "tags[0]"},
)
judged = Source("judged_payments", columns={**_PAYMENT, "fraud": "boolean"}, event_timestamp="paid_at", id="payment_id")

velocity = WindowedGroup(
    "velocity", card, payments, every="5m", ttl="1h", hold_below=0.01, retain="90d",
    features=(
        Feature("payments", "count", windows=("5m", "1h", "24h", "7d"), expect=(at_least(0),)),
        Feature("at_night", "count", where="at_night", windows=("7d",)),
        Feature("spend", "sum", "amount", windows=("1h", "24h", "7d"), expect=(mean_between(0, 10_000),)),
        Feature("amount", "mean", "amount", windows=("7d",)),
        Feature("large", "quantile", "amount", windows=("7d",), q=0.95, expect=(quantile_between(0.5, 0, 5_000),)),
        Feature("merchants", "approx_count_distinct", "merchant", windows=("24h", "7d")),
        Feature("favourite", "mode", "merchant", windows=("7d",)),
        Feature("tags", "top_k", "tag", windows=("7d",), k=3),
        Feature("amounts", "last_n", "amount", windows=("7d",), k=5),
        Feature("since", "time_since_last", windows=("7d", "lifetime")),
        Feature("count", "count", by={"channel": ("web", "In Store")}, windows=("24h",)),
        Derived("unusual", "spend_1h / amount_7d"),
        Derived("web_share", "count_web_24h / payments_24h", expect=(between(0, 1),)),
        Derived("newest", "amounts_7d[0]"),
    ),
)  # fmt: skip

sales = WindowedGroup("sales", merchant, payments, every="1h", ttl="3h", features=(Feature("sales", "sum", "amount", windows=("24h",)),))
ranks = TransformGroup(
    "ranks", merchant, (sales,), every="1h", ttl="3h", lookback="24h", schema={"place": "int64"},
    sql="""
        WITH best AS (SELECT merchant, max(sales_24h) AS sales FROM sales GROUP BY merchant)
        SELECT merchant, rank() OVER (ORDER BY sales DESC) AS place FROM best
    """,
)  # fmt: skip

fraud_v1 = FeatureService(
    "fraud_v1", joins=(Join(velocity), Join(sales)), defaults={"velocity__since_7d": 604_800.0, "velocity__favourite_7d": "none"}
)
fraud = TrainingSet("fraud", judged, fraud_v1, label=Label("fraud", "30d"))
