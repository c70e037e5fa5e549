"""Remembers: what was ingested, computed, published and synced, in SQLite or PostgreSQL."""

from feature_registry.database import RegistryError
from feature_registry.leases import Lease, LeaseHeld, LeaseLost, Subject
from feature_registry.registry import Facts, PendingIngest, PendingPublish, Registry, open_registry

__all__ = [
    "Facts",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "PendingIngest",
    "PendingPublish",
    "Registry",
    "RegistryError",
    "Subject",
    "open_registry",
]
