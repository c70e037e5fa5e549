"""What the folders on a file's way tell of its rows: those that are named `key=value`, as Hive and Spark name partitions."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from spark_jobs.ingest import cells
from spark_jobs.ingest.cells import Cell
from spark_jobs.ingest.parsing import FileRefused, Shape, printable

_NULL = "__HIVE_DEFAULT_PARTITION__"


def texts(path: Path) -> dict[str, str | None]:
    """What the folders on a file's way tell, by the names of columns there; of two folders of one key the inner one counts."""
    parts = [part.partition("=") for part in path.parent.parts if "=" in part]
    return {unquote(key): None if value == _NULL else unquote(value, errors="surrogateescape") for key, _, value in parts}


def at(wanted: Shape, name: str) -> Shape:
    """The shape of a file by its name in records, with what its folders tell of the source's columns: none above the project's root."""
    said = texts(Path(name))
    return replace(wanted, folders=tuple((ours, said[written]) for written, ours in wanted.ours.items() if written in said))


def told(wanted: Shape, *, name: str) -> dict[str, object]:
    """The values that the folders tell, by our name of the column; a file with one that is none of its type is refused."""
    values: dict[str, object] = {}
    for ours, text in wanted.folders:
        column = wanted.lying[ours]
        try:
            values[ours] = None if text is None else cells.of_text(column.data_type, wanted.timezone, how=column)(text)
        except ValueError as error:
            raise FileRefused(f"{name}: its folder says {column.name}={printable(str(text))!r}, which {error}") from None
    return values


def as_told(value: object, told: object) -> object:
    """A value that a file holds though its folder tells one too; raises ValueError if they are not the same."""
    if value != told:
        raise ValueError(f"is not what its folder says: {told}")
    return value


def always(value: object) -> Cell:
    """A cell that has a value whatever its text."""
    return lambda _: value
