"""Remembers what was done: the ledger, publishes, revisions and leases."""
