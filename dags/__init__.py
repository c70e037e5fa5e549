"""When things run: Airflow DAGs generated from the definitions."""
