"""Reads features from a Headwater server, or from its store, without Spark and without pandas.

from headwater_client import Client
with Client("http://127.0.0.1:8000") as features:
    features.get_features("customer_v1", [{"customer_id": 42}]).rows[0].values
"""

from headwater_client.answers import Features, FeatureVector, FeatureView, ServiceView
from headwater_client.client import AsyncClient, Client
from headwater_client.mishaps import ClientError, ContractBroken, FeaturesMissing, ServerAway, ServerRefused

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ContractBroken",
    "FeatureVector",
    "FeatureView",
    "Features",
    "FeaturesMissing",
    "ServerAway",
    "ServerRefused",
    "ServiceView",
]
