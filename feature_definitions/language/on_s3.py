"""How the place of data is written: a path of this machine, or one on S3."""

import re

from feature_definitions.language.rules import DefinitionError
from feature_definitions.layout import S3

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


def check_place(where: str, path: str) -> None:
    """Refuse a place of files that is neither a path nor on S3, and one on S3 that is not written as one."""
    check_on_s3(where, path)
    if _URL.match(path) and not path.startswith(S3):
        raise DefinitionError(f"{where} is no place of files; they lie on this machine or on S3: write a path, or {S3}bucket/folder")


def check_on_s3(where: str, path: str) -> None:
    """Refuse a place on S3 that is spelled otherwise than all programs understand, or names no bucket, or nothing in it."""
    if path.startswith(("s3:", "s3n:")):
        meant = f"{S3}{path.partition(':')[2].lstrip('/')}"
        raise DefinitionError(f"{where}: write s3a:, which all programs understand, like {meant!r}")
    if not path.startswith("s3a:"):
        return
    bucket, _, key = path.removeprefix(S3).partition("/")
    if not path.startswith(S3) or not _BUCKET.fullmatch(bucket):
        raise DefinitionError(
            f"{where}: write {S3}bucket/folder, the bucket in 3 to 63 small letters, digits, - and ., a letter or digit first and last"
        )
    if not key.strip("/"):
        raise DefinitionError(f"{where} names a bucket and nothing in it; write what lies there, like {f'{S3}{bucket}/folder'!r}")
