"""Where a run keeps rows that nobody may read yet: a folder of its own that is gone with the run, also with one that was killed.

A run holds its folder, and what is gone holds nothing: a folder that nobody holds is left over.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from feature_definitions import layout
from lake import storage


@contextmanager
def staging(lake: str, run_id: str) -> Iterator[str]:
    """The staging folder of one run, removed at the end of the block; those of runs that are gone are removed first."""
    folder = layout.staging_folder(lake, run_id)
    with ExitStack() as until_the_end:
        with storage.held(layout.staging(lake)):  # or somebody would take a folder that is just being made for left over
            for other in storage.folders(layout.staging(lake)):
                if not storage.is_held(other):
                    storage.delete_tree(other)
            until_the_end.enter_context(storage.held(folder))
        until_the_end.callback(storage.delete_tree, folder)
        yield folder
