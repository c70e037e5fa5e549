"""What models read."""

from feature_definitions import FeatureService, Join

from .customer_spend import customer_spend

customer_v1 = FeatureService("customer_v1", version=1, joins=(Join(customer_spend),))
