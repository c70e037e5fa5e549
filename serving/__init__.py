"""Answers requests from the online store."""
