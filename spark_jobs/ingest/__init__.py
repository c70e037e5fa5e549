"""Brings what sources hold into the lake, or reads it where it lies."""
