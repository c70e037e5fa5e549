"""What a sweep deletes on a server that says when an upload began: moto says of all that they are old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lake import leftovers

if TYPE_CHECKING:
    from tests import s3

KEEP = timedelta(days=7)


def test_the_uploads_of_a_living_run_stay_and_old_ones_are_ended(here: dict[str, str], versitygw: s3.Server) -> None:
    lake, client = here["HEADWATER_LAKE"], versitygw.client()
    bucket, now = lake.removeprefix("s3a://").split("/")[0], datetime.now(UTC)
    client.create_multipart_upload(Bucket=bucket, Key="lake/features/spend/1/hw-run=p1/date=2026-01-05/part-0.parquet")

    def uploads() -> int:
        return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))

    assert leftovers.sweep(lake, keep=KEEP, now=now + timedelta(minutes=1)).uploads == 0
    assert uploads() == 1
    assert leftovers.sweep(lake, keep=KEEP, now=now + KEEP + timedelta(minutes=1)).uploads == 1
    assert uploads() == 0
