"""Reads a catalog: executes the Python files below a folder and keeps the definitions at module level, with their places.

The files may import each other relatively, by the folder's own name, or as if the folder were on the path; each is
executed once. Nothing of this is left in `sys.modules` or `sys.path`, and no file is written.
"""

from pathlib import Path

from feature_definitions.loader.definitions import Catalog, collected
from feature_definitions.loader.finder import CatalogModules
from feature_definitions.loader.mistakes import CatalogError, Mistake
from feature_definitions.loader.places import Place

__all__ = ["Catalog", "CatalogError", "Mistake", "Place", "load"]


def load(folder: Path) -> Catalog:
    """The definitions below a folder; raises CatalogError with everything that is wrong with them."""
    if not folder.is_dir():
        raise CatalogError([Mistake(folder, 0, "there is no such folder; it should hold the catalog's Python files")])
    modules = CatalogModules(folder)
    executed = modules.execute()
    if modules.mistakes:
        raise CatalogError(modules.mistakes)
    return collected(folder, executed)
