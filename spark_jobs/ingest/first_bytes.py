"""What the first bytes of a file tell of its kind, whatever its name is, and what its name does."""

_OTHERS = {
    b"PK\x03\x04": "is a zip archive, or a workbook of Excel: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "is a workbook of Excel: save it as CSV",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"Obj\x01": "is an Avro file, which is not read: write it as Parquet",
    b"ORC": "is an ORC file, which is not read: write it as Parquet",
    b"SQLite format 3": "is a database of SQLite: export its table as CSV",
    b"<": "is HTML or XML, which is not read: write it as CSV or JSON",
    b"\x1f\x8b": "was compressed twice: unpack it once",
}
_TAR = slice(257, 262)


_ENDINGS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".lz4")


def by_name(name: str) -> str | None:
    """The format of source files that a file's name tells, compressed or not; None if it tells none that is read."""
    endings = [f".{part}" for part in name.lower().split(".")[1:]]
    return _ENDINGS.get(next((ending for ending in reversed(endings) if ending not in _COMPRESSED), ""))


def unreadable(begin: bytes) -> str | None:
    """What a file is that no source reads, and what to do about it."""
    if begin[_TAR] == b"ustar":
        return "is a tar archive: unpack it"
    text = _text(begin) if begin[:1] in b"\xef \t\r\n<" else begin
    return next((said for mark, said in _OTHERS.items() if text.startswith(mark)), None)


def kind(begin: bytes) -> str | None:
    """The format of source files that the first bytes tell; None if they are none that is read."""
    if begin.startswith(b"PAR1"):
        return "parquet"
    text = _text(begin)
    if text.startswith((b'{"', b'[{"', b"{\n", b"[\n", b"{\r", b"[\r", b"{ ", b"[ ", b"{}", b"[]")):
        return "jsonl"
    return "csv" if text else None


def sixteen_bits(begin: bytes) -> str | None:
    """The encoding of a text of which every other byte is zero; where the first one is, the high bytes come first."""
    halves = begin[0::2], begin[1::2]
    encodings = ("utf-16-be", "utf-16-le")
    return next((each for half, each in zip(halves, encodings, strict=True) if half.count(0) > len(half) * 0.8), None)


def _text(begin: bytes) -> bytes:
    return begin.lstrip(b"\xef\xbb\xbf \t\r\n\0")
