"""Owns the online store: what lies in it, and how it gets there."""
