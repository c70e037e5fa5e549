"""S3 is reached by the standard variables, or by a profile alone, and what it refuses is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import delta, delta_commits, s3, storage
from tests.s3 import KEY, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.s3 import Server

ROOT = Path(__file__).parent.parent.parent
PROFILE = "[profile lake]\nregion = us-east-1\nendpoint_url = {endpoint}\n"
KEYS = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"


def clean(home: Path) -> dict[str, str]:
    """An environment in which nobody says how S3 is reached."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(home), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nobody says how S3 is reached; for a test to say it."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in clean(tmp_path).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def profile(home: Path, text: str, credentials: str = "") -> None:
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws/config").write_text(text)
    (home / ".aws/credentials").write_text(credentials)


# ----------------------------------------------------------------------------------------------------------- all clients, one bucket

CLIENTS = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
from lake import delta, delta_commits, s3, storage
lake = sys.argv[1]
storage.write(f"{lake}/obstore", b"one")
s3.client(s3.reach()).put_object(Bucket=s3.split(lake)[0], Key="lake/boto3", Body=b"two")
pq.write_table(pa.table({"x": [3]}), "arrow.parquet", filesystem=storage.arrow(lake))
delta_commits.append_records(f"{lake}/table", pa.table({"x": [4]}), fence=lambda: None)
assert [f.name for f in storage.files(lake) if "table" not in f.path] == ["arrow.parquet", "boto3", "obstore"]
assert storage.read(f"{lake}/boto3") == b"two"
assert pq.read_table("arrow.parquet", filesystem=storage.arrow(lake)).to_pylist() == [{"x": 3}]
assert delta.load(f"{lake}/table").to_pylist() == delta.rows(f"{lake}/table", ["true"]) == [{"x": 4}]
print(s3.reach().keys, sorted(storage.options(lake)))
"""


def said(environment: dict[str, str], bucket: str) -> str:
    done = subprocess.run([sys.executable, "-c", CLIENTS, f"{bucket}/lake"], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_clients_read_and_write_a_bucket_by_the_variables_alone(moto: Server, tmp_path: Path) -> None:
    mine = {name: value for name, value in moto.environment.items() if name != "AWS_ALLOW_HTTP"}
    found = said(clean(tmp_path) | mine, moto.bucket("by-variables"))
    assert found == "variables ['AWS_ALLOW_HTTP', 'AWS_CONDITIONAL_PUT', 'AWS_ENDPOINT_URL', 'AWS_REGION']"


def test_all_clients_read_and_write_a_bucket_by_a_profile_alone(moto: Server, tmp_path: Path) -> None:
    profile(tmp_path, PROFILE.format(endpoint=moto.endpoint), f"[lake]\n{KEYS}")
    found = said(clean(tmp_path) | {"AWS_PROFILE": "lake"}, moto.bucket("by-a-profile"))
    assert found.startswith("profile ['AWS_ALLOW_HTTP', 'AWS_CONDITIONAL_PUT', 'AWS_ENDPOINT_URL', 'AWS_FORCE_CREDENTIAL_LOAD'")


# ------------------------------------------------------------------------------------------------------------------ what is said where


def test_an_endpoint_of_s3_alone_wins_and_any_region_will_do_there(nobody: pytest.MonkeyPatch) -> None:
    nobody.setenv("AWS_ACCESS_KEY_ID", KEY)
    nobody.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    nobody.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    nobody.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    found = s3.reach()
    assert (found.endpoint, found.region, found.keys) == ("https://s3.example.com", "us-east-1", "variables")
    assert s3.options(found) == {
        "AWS_CONDITIONAL_PUT": "etag",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "https://s3.example.com",
    }


def test_keys_are_of_the_variables_and_what_they_leave_open_of_the_profile(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile(tmp_path, "[default]\nregion = eu-central-1\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = http://127.0.0.1:2\n")
    nobody.setenv("AWS_ACCESS_KEY_ID", KEY)
    nobody.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = s3.reach()
    assert (found.endpoint, found.region, found.keys) == ("http://127.0.0.1:2", "eu-central-1", "variables")


def test_nothing_that_is_told_on_holds_a_key(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile(tmp_path, "[default]\nregion = eu-central-1\n", f"[default]\n{KEYS}")
    found = s3.reach()
    assert SECRET not in f"{found!r} {s3.options(found)}"
    assert found.provider is not None
    assert found.provider()["secret_access_key"] == SECRET


def test_where_s3_is_is_found_out_once(nobody: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile(tmp_path, "[default]\nregion = eu-central-1\n", f"[default]\n{KEYS}")
    assert s3.reach() is s3.reach()
    before = s3.reach()
    nobody.setenv("AWS_REGION", "eu-west-1")
    assert s3.reach() is not before
    assert s3.reach().region == "eu-west-1"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "S3 wants keys, and there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
        ({"AWS_PROFILE": "mine"}, "S3 cannot be reached: The config profile (mine) could not be found; correct AWS_PROFILE"),
        ({"AWS_ENDPOINT": "http://x"}, "the variable AWS_ENDPOINT is read by some programs only, so that others look elsewhere"),
        ({"AWS_DEFAULT_PROFILE": "x"}, "the variable AWS_DEFAULT_PROFILE is read by some programs only, so that others look elsewhere"),
        ({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}, "the bucket's region is not said; set AWS_REGION"),
        (
            {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": "127.0.0.1:9000"},
            "AWS_ENDPOINT_URL is '127.0.0.1:9000'; write a URL, like https://s3.example.com",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said(nobody: pytest.MonkeyPatch, variables: dict[str, str], sentence: str) -> None:
    for name, value in variables.items():
        nobody.setenv(name, value)
    with pytest.raises(s3.S3Fault) as refused:
        storage.exists("s3a://bucket/lake")
    assert str(refused.value).startswith(sentence)


# ---------------------------------------------------------------------------------------------------------------------------- faults


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """The endpoint of a server that gives every request the same answer."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    for verb in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Answer, f"do_{verb}", Answer.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def into(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint}.items():
        environment.setenv(name, value)


def asked(lake: str) -> list[str]:
    """What everything says that asks S3 for something."""
    rows = pa.table({"x": [1]})
    calls = (
        lambda: storage.exists(lake),
        lambda: storage.files(lake),
        lambda: storage.folders(lake),
        lambda: storage.read(f"{lake}/x"),
        lambda: storage.write(f"{lake}/x", b"1"),
        lambda: storage.create(f"{lake}/x", b"1"),
        lambda: delta.exists(f"{lake}/x"),
        lambda: delta.rows(f"{lake}/x", ["true"]),
        lambda: delta.opened(f"{lake}/x"),
        lambda: delta_commits.append_records(f"{lake}/x", rows, fence=lambda: None),
    )
    sentences = []
    for call in calls:
        with pytest.raises(s3.S3Fault) as fault:
            call()
        sentences.append(str(fault.value))
    return sentences


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "InvalidAccessKeyId", "S3 does not know the keys given for bucket b1b at {at}; correct AWS_ACCESS_KEY_ID and"),
        (404, "XAdminUserNotFound", "S3 does not know the keys given for bucket b1b at {at}"),
        (403, "AccessDenied", "S3 refuses what is asked of bucket b1b at {at}: the keys may not do it, or are wrong"),
        (400, "ExpiredToken", "S3 refuses the keys for bucket b1b at {at}, because they have ended"),
        (301, "PermanentRedirect", "bucket b1b lies in another region than us-east-1; set AWS_REGION to its own"),
        (404, "NoSuchBucket", "there is no bucket b1b at {at}; make it, or correct the name"),
        (405, "MethodNotAllowed", "S3 failed when it was asked for bucket b1b: 405 Method Not Allowed"),
    ],
)
def test_what_s3_refuses_is_one_sentence_for_everybody(nobody: pytest.MonkeyPatch, status: int, code: str, sentence: str) -> None:
    with answering(status, code) as endpoint:
        into(nobody, endpoint)
        found = asked("s3a://b1b/lake")
    assert {each.startswith(sentence.format(at=endpoint)) for each in found} == {True}, found
    assert not any(SECRET in each or "\n" in each for each in found)


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("http://127.0.0.1:1", "S3 does not answer at http://127.0.0.1:1; see whether it runs"),
        ("https", "has no TLS certificate that is trusted here"),
    ],
)
def test_an_endpoint_that_cannot_be_spoken_to_is_said(nobody: pytest.MonkeyPatch, endpoint: str, sentence: str) -> None:
    with answering(200, "") as other:
        into(nobody, endpoint.replace("https", f"https://{other.removeprefix('http://')}"))
        with pytest.raises(s3.S3Fault, match=sentence):
            storage.read("s3a://b1b/lake/x")


def test_the_error_of_any_client_is_explained_also_where_others_come_of_it(nobody: pytest.MonkeyPatch) -> None:
    with answering(403, "AccessDenied") as endpoint:
        into(nobody, endpoint)
        with pytest.raises(OSError, match="ACCESS_DENIED") as of_arrow:
            pq.read_table("x.parquet", filesystem=storage.arrow("s3a://b1b/lake"))
        with pytest.raises(Exception, match=r"Access ?Denied") as of_boto3:
            s3.client(s3.reach()).list_objects_v2(Bucket="b1b")
        of_java = RuntimeError(
            "java.nio.file.AccessDeniedException: s3a://b1b/x: software.amazon.awssdk.services.s3.model.S3Exception: 403"
        )
        of_java.__cause__ = RuntimeError("else")
        for error in (of_arrow.value, of_boto3.value, of_java):
            assert "S3 refuses what is asked of bucket" in str(s3.explained(error))
            outer = RuntimeError("the work failed")
            outer.__cause__ = error
            assert str(s3.explained(outer)) == str(s3.explained(error))
    assert s3.explained(ValueError("connection refused: AccessDenied")) is None
