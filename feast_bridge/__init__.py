"""Feast, unchanged, on our definitions and data: what is told to its registry, and the stores that it reads.

It stands above everything, like a user: Feast loads its classes by their names, and they open a project as anybody does. `headwater feast`
starts it in a process of its own, since importing feast costs seconds.
"""
