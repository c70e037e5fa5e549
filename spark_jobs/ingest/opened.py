"""Opens a file as text: decompressed and decoded as its first bytes say, line by line with a bound on the length of each, or in blocks."""

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from io import BufferedReader, StringIO, TextIOWrapper
from itertools import chain
from typing import BinaryIO, cast

import pyarrow as pa

from feature_definitions.errors import UserError
from spark_jobs.ingest.whereabouts import Place

LONGEST = 8 * 2**20
"""So many characters a line, a quoted field or a JSON object may have: what is longer is no row, and would fill memory."""
_BLOCK = 2**18
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, UnicodeError, OverflowError)
"""What reading a truncated or corrupt file may raise."""

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x50\x2a\x4d\x18": "zstd",  # by pzstd
    b"\x04\x22\x4d\x18": "lz4",
}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_AS_BYTES = "headwater_bytes"


class LineTooLong(UserError):
    """A line that goes on beyond `LONGEST`."""


def compression(begin: bytes) -> str | None:
    """How a file is compressed that begins with some bytes; a name may lie, its first bytes do not."""
    return next((how for mark, how in _COMPRESSED.items() if begin.startswith(mark)), None)


def marked(begin: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    return next((encoding for mark, encoding in _MARKS.items() if begin.startswith(mark)), None)


def content(file: BufferedReader) -> BinaryIO:
    """The bytes of an open file as they were before it was compressed, as a stream."""
    match compression(file.peek(8)):
        case "gzip":
            return cast("BinaryIO", gzip.GzipFile(fileobj=file))
        case "bz2":
            return cast("BinaryIO", bz2.BZ2File(file))
        case "xz":
            return cast("BinaryIO", lzma.LZMAFile(file))
        case None:
            return file
        case codec:
            return BufferedReader(pa.CompressedInputStream(file, codec))


class Text:
    """The lines of a file, each with its end, and how many characters were read; a byte that is no text is a lone surrogate."""

    def __init__(self, stream: TextIOWrapper) -> None:
        """Begin before the first line."""
        self.encoding = stream.encoding
        self.characters = 0
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        """Each line; raises LineTooLong. Lines are parted in blocks, which takes half the time of asking for each."""
        rest, before = "", 0
        while block := self._stream.read(_BLOCK):
            self.characters += len(block)
            held = rest + block
            end = max(held.rfind("\n"), held.rfind("\r", 0, -1)) + 1  # a CR at the end may be half of a line's end
            yield from StringIO(held[:end], newline="")
            before += held.count("\n", 0, end) or held.count("\r", 0, end)
            rest = held[end:]
            if len(rest) > LONGEST:
                raise LineTooLong(f"line {before + 1} goes on for more than {LONGEST:,} characters")
        yield from StringIO(rest, newline="")

    def pieces(self) -> Iterator[str]:
        """Each line, one that is too long in several pieces."""
        for piece in iter(partial(self._stream.readline, LONGEST), ""):
            self.characters += len(piece)
            yield piece


@contextmanager
def plain(path: Place) -> Iterator[BinaryIO]:
    """A file's bytes as they were before it was compressed."""
    with path.open("rb") as file, closing(content(file)) as stream:
        yield stream


@contextmanager
def text(path: Place, encoding: str, *, newline: str) -> Iterator[Text]:
    """A file as text; `newline` is that of `open`."""
    with plain(path) as stream:
        begin: bytes = stream.peek(4)  # type: ignore[attr-defined]  # all of them have it
        yield Text(TextIOWrapper(stream, encoding=encoding_of(begin, encoding), errors=_handler(), newline=newline))


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text, each with its end."""
    return iter(StringIO(text, newline=""))


def decoded(block: bytes) -> str:
    """UTF-8 as `text` has it."""
    return block.decode("utf-8", _handler())


def encoded(text: str) -> bytes:
    """What `decoded` gave, as the bytes that it was."""
    return text.encode("utf-8", "surrogateescape")


def _handler() -> str:
    codecs.register_error(_AS_BYTES, _as_bytes)
    return _AS_BYTES


def encoding_of(begin: bytes, stated: str) -> str:
    """The encoding that a byte order mark tells, else the one that is stated; where it leaves the order of bytes open, by the first."""
    found = marked(begin) or codecs.lookup(stated).name
    if found in ("utf-16", "utf-32") and marked(begin) is None:
        return f"{found}-be" if begin[:1] == b"\0" else f"{found}-le"
    return found


def _as_bytes(error: UnicodeError) -> tuple[str, int]:
    """A surrogate for each byte that cannot be decoded, so that the row that holds it is put aside alone."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


# ---------------------------------------------------------------------------------------------------------------------------------- blocks


_BYTES, _HEAD = 4 * 2**20, 2**16


class LongLine(UserError):
    """A line that is longer than a block: only who reads line by line may say whether it is too long."""


class Blocks:
    """The whole lines of a stream of bytes, some millions of bytes at a time; `line` is how many lines were read."""

    def __init__(self, stream: BinaryIO) -> None:
        """Begin before the first line."""
        self.line = 0
        self._stream = stream
        self._rest = b""
        self._is_at_end = False

    def __iter__(self) -> Iterator[bytes]:
        """Each block, with an end to its last line; raises LongLine. Who reads one adds its lines to `line`."""
        while block := self._next():
            yield block

    def head(self) -> tuple[bytes, bool]:
        """The first lines, which stay to be read, and whether these are all."""
        self._fill()
        if self._is_at_end and len(self._rest) <= _HEAD:
            return _ended(self._rest), True
        return self._rest[: self._rest.rfind(b"\n", 0, _HEAD) + 1], False

    def skip(self, length: int, *, lines: int) -> None:
        """Leave out some bytes, which are so many lines."""
        self._rest = self._rest[length:]
        self.line += lines

    def lines(self, block: bytes) -> Generator[str]:
        """The lines of a block, then, as long as somebody asks for more, those after it; who stops leaves the others to be read."""
        for held in chain((block,), self):
            text = StringIO(decoded(held), newline="")
            try:
                for line in text:
                    self.line += 1
                    yield line
            finally:
                self._rest = encoded(text.read()) + self._rest

    def _next(self) -> bytes:
        self._fill()
        end = len(self._rest) if self._is_at_end else self._rest.rfind(b"\n") + 1
        if not end and self._rest:
            raise LongLine(f"line {self.line + 1} is longer than a block")
        block, self._rest = _ended(self._rest[:end]), self._rest[end:]
        return block

    def _fill(self) -> None:
        while len(self._rest) < _BYTES and not self._is_at_end:
            piece = self._stream.read(_BYTES)
            self._rest += piece
            self._is_at_end = not piece


def _ended(lines: bytes) -> bytes:
    return lines if not lines or lines.endswith(b"\n") else lines + b"\n"
