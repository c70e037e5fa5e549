"""Flights that left New York: how late carriers, airports and aircraft are, and why an arrival may be late."""
