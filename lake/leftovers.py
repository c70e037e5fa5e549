"""What runs that were cut off left in the lake beside their tables' files: staging folders, and on S3 what its clients leave half done.

A run may take hours, and nothing tells the uploads of a living one from those of a dead one: what is swept by age is older than any run.
The files of no commit in a table's own folder are swept when the table is optimized, those of a training set when it is built again.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from feature_definitions import layout
from lake import delta, judged, logs, s3, staging, storage

_OF_A_WRITER = re.compile(rf"(^|/)({layout.RUN}|staging/)[^/]+/(.*/)?(__magic[^/]*|_temporary)/")
"""In which folders of a run Spark's committers keep what they note until their job ends."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What was swept: staging folders, unfinished uploads, and files by which clients of S3 mark folders or note what they write."""

    staging: int
    uploads: int
    files: int


class _Found(NamedTuple):
    """A key, its bytes, and when it was written last."""

    key: str
    size: int
    written_at: datetime


def sweep(lake: str, *, keep: timedelta, now: datetime, runs: Collection[tuple[str, str]] = ()) -> Swept:
    """Delete what was left longer than `keep` ago, and the staging folders of runs that are gone; on a local folder there are no others.

    The rows of `runs` (each a group and a run's id) wait for a person, and stay.
    """
    staged = len(staging.sweep(lake, now=lambda: now)) + len(judged.sweep(lake, waiting=runs, before=now - keep))
    if not s3.is_remote(lake):
        return Swept(staged, 0, 0)
    with storage.told(lake):
        client, (bucket, key) = s3.client(s3.reach()), s3.split(lake)
        below = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
        uploads = [each for each in _uploads(client, below) if each["Initiated"] < now - keep]
        for each in uploads:
            client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
        return Swept(staged, len(uploads), _deleted(client, bucket, left_over(_found(client, below), before=now - keep)))


def sweep_runs(path: str) -> None:
    """Delete the files that runs wrote below a table and did not commit. The caller holds the lease of what writes it."""
    known = logs.commit_ids(path) if delta.exists(path) else frozenset()
    for folder in storage.folders(path):
        run = folder.removeprefix(layout.run_folder(path, ""))
        if run not in (folder, *known):
            storage.delete_tree(folder)


def left_over(found: Iterable[_Found], *, before: datetime) -> Iterator[str]:
    """The keys, of those written `before`, that mark a folder or were notes of a writer: no table's and no other file of ours."""
    for each in found:
        marks = each.key.endswith("/") and each.size == 0
        if each.written_at < before and (marks or _OF_A_WRITER.search(each.key)):
            yield each.key


def _uploads(client: Any, below: dict[str, str]) -> Iterator[dict[str, Any]]:
    for page in client.get_paginator("list_multipart_uploads").paginate(**below):
        yield from page.get("Uploads", ())


def _found(client: Any, below: dict[str, str]) -> Iterator[_Found]:
    for page in client.get_paginator("list_objects_v2").paginate(**below):
        yield from (_Found(each["Key"], each["Size"], each["LastModified"]) for each in page.get("Contents", ()))


def _deleted(client: Any, bucket: str, keys: Iterable[str]) -> int:
    """Delete keys, a thousand in a request; how many they were."""
    listed = list(keys)
    for first in range(0, len(listed), 1000):
        named = [{"Key": key} for key in listed[first : first + 1000]]
        client.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})
    return len(listed)
