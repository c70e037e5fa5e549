"""What the verbs of the online store do without, so that they start sooner: packages that others load only because they are installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def telemetry() -> None:
    """Have redis do without OpenTelemetry, which would count what nobody asks for."""
    with _absent("opentelemetry"):
        import online_sync.store  # noqa: F401  # it brings redis


def pandas() -> None:
    """Have pyarrow do without pandas, which it loads with its first array, a third of a small sync: nothing of a sync is pandas.

    Whoever asks pyarrow for pandas later gets it all the same.
    """
    import pyarrow as pa

    with _absent("pandas"):
        pa.array([])


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Until the end a package that nobody has loaded yet is not found."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(name=name)

    sys.meta_path.insert(0, Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)
