"""Spark SQL in definitions: what an expression reads, which type it gives, and how Spark is to compute it."""
