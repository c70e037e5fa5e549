"""Brings what sources hold into the lake, or looks at it where it lies."""
