"""Churn: what the contract was, how the service was used, and who left within the next 30 days."""

from feature_definitions import (
    Entity,
    Feature,
    FeatureService,
    Join,
    Label,
    SnapshotGroup,
    Source,
    Table,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
    one_of,
    unique,
)

customer = Entity("customer", keys={"customer_id": "string"})

contracts = Source(
    "contracts",
    Table("crm.contracts"),
    columns={"customer_id": "string", "plan": "string", "price": "decimal(8,2)", "extracted_at": "timestamp"},
    event_timestamp="extracted_at",
    shape="snapshots",
    id=("customer_id",),
)
usage = Source("usage", Table("crm.usage"), columns={"customer_id": "string", "minutes": "double", "at": "timestamp"}, event_timestamp="at")
left = Source("left", columns={"customer_id": "string", "churned": "boolean", "asked_at": "timestamp"}, event_timestamp="asked_at")

contract = SnapshotGroup("contract", customer, contracts, columns=("plan", "price"), ttl="3d", publish_delay="6h", retain="730d")
behaviour = WindowedGroup(
    "behaviour", customer, usage, ttl="2d",
    features=(
        Feature("minutes", "sum", "minutes", windows=("7d", "30d", "365d")),
        Feature("spread", "variance", "minutes", windows=("30d",)),
        Feature("days", "count_distinct", "date(at)", windows=("30d",), expect=(one_of(0, 1, 2), unique(severity="info"))),
    ),
)  # fmt: skip


def scored(plans, minutes):
    """A function of its inputs' DataFrames."""
    return plans.join(minutes, "customer_id")


value = TransformGroup(
    "value", customer, (contract, behaviour), function=scored, lookback="30d", publish_delay="6h", ttl="2d", schema={"value": "double"}
)

churn_v1 = FeatureService("churn_v1", joins=(Join(contract), Join(behaviour)))
churn = TrainingSet("churn", left, churn_v1, label=Label("churned", "30d"))
