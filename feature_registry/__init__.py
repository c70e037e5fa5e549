"""Remembers: what was ingested, computed, published and synced, in SQLite or PostgreSQL."""

from feature_registry.database import RegistryError
from feature_registry.leases import Lease, LeaseHeld, LeaseLost, Subject
from feature_registry.registry import Registry, open_registry

__all__ = [
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Registry",
    "RegistryError",
    "Subject",
    "open_registry",
]
