"""What is wrong in the project's catalog, as one import error that Airflow shows while all DAGs stay that do not rest on it.

Airflow parses this file too: it makes no DAG, and fails as long as there is a mistake.
"""

from feature_definitions import settings
from feature_definitions.loader import load


def check_catalog() -> None:
    """Raise CatalogError with every mistake, its file and line; a folder that is no project is told by `headwater_dags`."""
    try:
        project = settings.load(settings.project_folder(None))
    except settings.SettingsError:
        return
    load(project.catalog)


check_catalog()  # airflow looks for DAGs only in files that hold both words: airflow and dag
