"""The page on S3 keeps what it promises: its policy allows what the lake's code asks for, and nothing else."""

from __future__ import annotations

import fnmatch
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lake import identity, leftovers, storage
from tests import s3, s3_proxy
from tests.lake import racing
from tests.s3_proxy import Request
from tests.test_readme import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "s3.md"
BUCKET, PREFIX = "my-bucket", "my_features"


def documents() -> list[dict[str, Any]]:
    return [json.loads(text) for text in blocks(PAGE, "json")]


def policy() -> list[dict[str, Any]]:
    """The statements of the policy; each has lists of actions and of prefixes."""
    (found,) = [document["Statement"] for document in documents() if "Statement" in document]
    one = [statement | {"Action": [statement["Action"]]} for statement in found if isinstance(statement["Action"], str)]
    return [*one, *(statement for statement in found if isinstance(statement["Action"], list))]


def allows(statement: dict[str, Any], action: str, request: Request) -> bool:
    """As IAM decides: an action on a key by the resource's pattern, one on the bucket by the prefix that is listed.

    Of many keys that are deleted at once, which are in the request's body, only the bucket is looked at.
    """
    if action not in statement["Action"]:
        return False
    if "delete" in request.query:
        return bool(statement["Resource"].startswith(f"arn:aws:s3:::{request.bucket}/"))
    on = f"arn:aws:s3:::{request.bucket}" + (f"/{request.key}" if action in KEYED else "")
    asked = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", ["*"])
    listed = request.query.get("prefix", "")
    return fnmatch.fnmatchcase(on, statement["Resource"]) and any(fnmatch.fnmatchcase(listed, pattern) for pattern in asked)


KEYED = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}


@pytest.fixture(scope="module")
def asked(moto: s3.Server) -> Iterator[list[Request]]:
    """What the lake's own code asks for, from the first commit to the sweeping of what was left."""
    lake = f"{moto.bucket(BUCKET)}/{PREFIX}"
    with s3_proxy.counting(moto) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in proxy.environment.items():
            patch.setenv(name, value)
        identity.made(lake)
        racing.main(lake, "me", 1, 2)
        storage.files(lake)
        moto.client().create_multipart_upload(Bucket=BUCKET, Key=f"{PREFIX}/features/g/g1/part-0.parquet")
        swept = leftovers.sweep(lake, keep=timedelta(), now=datetime.now(UTC) + timedelta(hours=1))
        assert swept.uploads == 1
        storage.delete_tree(f"{lake}/features")
        yield list(proxy.requests)


def test_the_policy_allows_what_is_asked(asked: list[Request]) -> None:
    refused = [(action, one) for one in asked for action in one.actions if not any(allows(each, action, one) for each in policy())]
    assert refused == []


def test_the_policy_allows_nothing_that_nobody_asks_for(asked: list[Request]) -> None:
    assert {action for each in policy() for action in each["Action"]} == {action for one in asked for action in one.actions}


def test_the_policy_refuses_what_lies_beside_the_lake() -> None:
    for request in (
        Request("GET", f"/{BUCKET}/{PREFIX}_too/key", {}, {}),
        Request("DELETE", "/other/my_features/key", {}, {}),
        Request("GET", f"/{BUCKET}", {"list-type": "2", "prefix": "other/"}, {}),
    ):
        assert not any(allows(each, action, request) for each in policy() for action in request.actions)


def test_the_lifecycle_rule_ends_uploads_and_deletes_nothing_else(moto: s3.Server) -> None:
    (rules,) = [document for document in documents() if "Rules" in document]
    assert all(set(rule) == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"} for rule in rules["Rules"])
    client = moto.client()
    moto.bucket("lifecycle")
    client.put_bucket_lifecycle_configuration(Bucket="lifecycle", LifecycleConfiguration=rules)
    assert client.get_bucket_lifecycle_configuration(Bucket="lifecycle")["Rules"][0]["Filter"] == {"Prefix": f"{PREFIX}/"}
