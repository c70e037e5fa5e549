"""A run that S3 refuses to its very end says so in a sentence: readers keep the last good state, and the same command repairs it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from lake import s3, storage
from tests import projects
from tests.conftest import reached
from tests.projects import PAYMENTS, within
from tests.s3_proxy import Counting, Fault, Request, counting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.s3 import Server

CATALOG = """
from feature_definitions import Entity, Feature, Files, Source, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", Files("data/payments/*.csv", format="csv"),
    columns={"payment_id": "string", "customer_id": "int64", "amount": "double", "refunded": "boolean", "paid_at": "timestamp",
             "arrived": "timestamp"},
    event_timestamp="paid_at", timezone="UTC", id=("payment_id",), arrived_at="arrived",
)
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "amount", windows=("1d", "3d")),))
"""
CORRECTED = PAYMENTS[0].replace("10.5", "11.5").replace("09:01:00Z", "09:02:00Z")
"""It changes what was published of three days."""


@pytest.fixture(scope="module")
def proxy(moto: Server, spark: SparkSession) -> Iterator[Counting]:
    """The proxy, by which everything reaches S3; a request that is refused is made only once more."""
    moto.bucket("refused")
    once_more = {"max_retries": 1}
    with counting(moto) as made, reached(spark, made.environment), pytest.MonkeyPatch.context() as patch:
        storage._bucket.cache_clear()
        patch.setattr(storage, "S3Store", partial(storage.S3Store, retry_config=once_more))
        options = s3.options
        patch.setattr(s3, "options", lambda found: options(found) | {"max_retries": "1"})
        yield made
    storage._bucket.cache_clear()


class Refusing:
    """S3 refuses everything from the first time on that something is put below a folder of the lake."""

    def __init__(self, folder: str) -> None:
        """Begin with that folder."""
        self.folder, self.begun = folder, False

    def __call__(self, request: Request) -> Fault | None:
        """What becomes of a request."""
        self.begun |= request.verb == "PUT" and f"/lake/{self.folder}/" in request.path
        return Fault.BUSY if self.begun else None


def published(project: Path) -> list[tuple[int, float]]:
    """What readers see of the group, and in what state its intervals are."""
    with projects.opened(project) as p:
        frame = p.read("spend")
    return sorted(zip(frame["customer_id"], frame["paid_3d"], strict=True))


def test_what_s3_refuses_to_the_end_changes_nothing_and_is_repaired_by_the_same_command(
    proxy: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = projects.make(tmp_path / "shop", catalog=CATALOG, files={"data/payments/first.csv": projects.rows(*PAYMENTS)})
    projects.write(project, "headwater.toml", '[project]\nname = "shop"\nlake = "s3a://refused/lake"\n')
    assert [within(each, project=project).code for each in ("ingest", "materialize")] == [0, 0]
    before = published(project)
    projects.write(project, "data/payments/second.csv", projects.rows(CORRECTED))
    for verb, folder in (("ingest", "sources"), ("materialize", "features")):
        refusing = Refusing(folder)
        with monkeypatch.context() as patch:
            patch.setattr(proxy, "fault", refusing)
            done = within(verb, "--json", project=project)
        assert refusing.begun
        assert (done.code, done.err.count("again and again")) == (2, 1), done.err
        assert "Traceback" not in done.err
        assert published(project) == before
        assert within(verb, project=project).code == 0
    assert published(project) != before
    status = within("status", "--json", project=project)
    assert {each["status"] for each in status.json["intervals"]} == {"OK"}
