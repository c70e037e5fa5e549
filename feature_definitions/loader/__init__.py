"""Reads a catalog: executes the Python files below a folder and keeps the definitions at module level, with their places.

The files may import each other relatively, by the folder's own name, or as if the folder were on the path; each is
executed once. Nothing of this is left in `sys.modules` or `sys.path`, and no file is written.
"""

from dataclasses import replace
from pathlib import Path

from feature_definitions.loader.definitions import Catalog, collected, without
from feature_definitions.loader.finder import CatalogModules
from feature_definitions.loader.mistakes import CatalogError, Mistake
from feature_definitions.loader.places import Place

__all__ = ["Catalog", "CatalogError", "Mistake", "Place", "load", "load_sound", "without"]


def load(folder: Path) -> Catalog:
    """The definitions below a folder; raises CatalogError with everything that is wrong with them."""
    catalog = load_sound(folder)
    if catalog.left_out:
        raise CatalogError(catalog.left_out)
    return catalog


def load_sound(folder: Path) -> Catalog:
    """Those definitions below a folder that can be used: without files that have a mistake, and without what rests on one."""
    if not folder.is_dir():
        missing = Mistake(folder, 0, "there is no such folder; it should hold the catalog's Python files")
        return replace(collected(folder, []), left_out=(missing,))
    modules = CatalogModules(folder)
    found = collected(folder, modules.execute())
    return replace(found, left_out=tuple(modules.mistakes) or found.left_out)
