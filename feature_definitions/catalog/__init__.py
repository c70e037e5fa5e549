"""The catalog: per domain its sources, its services, and one file per feature group."""
