"""What Headwater's types are in Arrow: apart from Delta, so that whoever needs the types alone loads nothing else."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_type(kind: str) -> "pa.DataType":
    """The Arrow type of a Headwater type; timestamps are microseconds in UTC."""
    import pyarrow as pa

    if kind.startswith("array<"):
        return pa.list_(arrow_type(kind[6:-1]))
    if kind.startswith("decimal"):
        digits, scale = kind.removeprefix("decimal(").rstrip(")").split(",")
        return pa.decimal128(int(digits), int(scale))
    named = {
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return named[kind]
