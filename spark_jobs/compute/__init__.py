"""Computes the rows of feature groups."""
