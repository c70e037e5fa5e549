"""How much a customer pays, and how often."""

from feature_definitions import Derived, Feature, WindowedGroup, at_least

from .sources import customer, payments

customer_spend = WindowedGroup(
    name="customer_spend", entity=customer, source=payments, every="1d", ttl="2d",
    features=(
        Feature("spend", "sum", "amount", windows=("1d", "7d", "30d"), expect=(at_least(0),)),
        Feature("payments", "count", windows=("1d", "30d")),
        Derived("mean_payment_30d", "spend_30d / payments_30d"),
    ),
)  # fmt: skip
