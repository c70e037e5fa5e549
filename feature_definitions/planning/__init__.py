"""Decides what must be done, purely, over what was remembered."""
