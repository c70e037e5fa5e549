"""Judges computed rows and makes those that passed visible."""
