"""Judges what was computed, with Great Expectations."""
