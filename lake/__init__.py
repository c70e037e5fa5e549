"""Keeps every table and file of a project, without Spark: on a local folder, later in an object store."""
