"""Joins training sets from what was published."""
