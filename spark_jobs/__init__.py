"""The offline jobs: everything that runs on Spark."""
