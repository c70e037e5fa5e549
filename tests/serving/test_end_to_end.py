"""The server as it runs in production: TLS, keys and their audit, another catalog at a SIGHUP, and lost processes under load."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import signal
import ssl
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headwater_client import Client, ServerAway, ServerRefused
from online_sync import embedded
from serving.messages import SERVICE, message
from tests import projects
from tests.serving.processes import serving
from tests.serving.test_forked import children, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEFORE = """
from feature_definitions import Entity, Feature, FeatureService, Files, Join, Source, WindowedGroup

customer = Entity("customer", {"customer_id": "int64"})
payments = Source("payments", Files("data/*.csv"), columns={"customer_id": "int64", "paid": "double", "at": "timestamp"},
                  event_timestamp="at", timezone="UTC")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "paid", windows=("1d",)),))
first = FeatureService("first", joins=(Join(spend),))
"""
OTHER = BEFORE.replace('"customer"', '"client"').replace("payments", "bills").replace("spend", "bill").replace("first", "third")
SECOND = BEFORE + 'second = FeatureService("second", joins=(Join(spend),))\n'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine, signed by its own key."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now, here = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


def ask(port: int, cert: Path | None, service: str, key: str) -> tuple[int, Any]:
    context = ssl.create_default_context(cafile=cert)
    secure = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30) if cert is None else secure) as connection:
        body = json.dumps({"service": service, "entities": [{"customer_id": 1}]})
        connection.request("POST", "/v1/features", body, {"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project whose store is stopped at the end."""
    made = projects.make(tmp_path / "project", catalog=BEFORE)
    yield made
    assert projects.within("down", "--json", project=made).json == {"stopped": True}


def test_a_file_with_a_mistake_costs_itself_only_when_a_server_starts_and_when_it_takes_up_the_catalog_anew(folder: Path) -> None:
    (folder / "catalog" / "other.py").write_text("third = = 3\n")
    with projects.starting("serve", "--port", "0", "--json", "--project", folder) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip()]
        while "}" not in lines[-1:]:
            lines.append(process.stdout.readline().strip())
        told = json.loads("".join(lines))
        port = int(told["url"].rpartition(":")[2])
        assert told["services"] == ["first"]
        (folder / "catalog" / "shop.py").write_text(SECOND)
        process.send_signal(signal.SIGHUP)
        until(lambda: ask(port, None, "second", "")[0] == 200)
        (folder / "catalog" / "shop.py").write_text(BEFORE.replace('ttl="2d"', 'ttl="2 days"'))
        (folder / "catalog" / "other.py").write_text(OTHER)
        process.send_signal(signal.SIGHUP)
        until(lambda: ask(port, None, "third", "")[0] == 200)
        assert ask(port, None, "second", "")[0] == 200
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    assert "left out, with what rests on it: " in said
    assert "other.py:1: this is not Python" in said
    assert "the old definitions stay of what rests on it: " in said


def test_tls_keys_audit_and_sighup_are_as_documented(folder: Path, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"name": "model", "sha256": hashlib.sha256(b"sesame").hexdigest()}]}))
    words = ("--tls", str(cert), str(key), "--keys", str(keys), "--grpc-port", "0", "--json")
    with projects.starting("serve", "--port", "0", *words, "--project", str(folder)) as process:
        assert process.stdout is not None
        lines = []
        while "}" not in lines[-1:]:
            lines.append(process.stdout.readline().strip())
        told = json.loads("".join(lines))
        port = int(told["url"].rpartition(":")[2])
        assert told["url"].startswith("https://")
        assert ask(port, cert, "first", "sesame")[0] == 200
        assert ask(port, cert, "first", "opensaysme")[0] == 401
        assert ask(port, cert, "second", "sesame")[0] == 404
        with grpc.secure_channel(told["grpc"], grpc.ssl_channel_credentials(cert.read_bytes())) as channel:
            call = channel.unary_unary(f"/{SERVICE}/Get")
            asked = message("GetRequest")(service="first", entity={"customer_id": message("Value")(integer=1)}).SerializeToString()
            assert call(asked, metadata=[("authorization", "Bearer sesame")], timeout=30)
            with pytest.raises(grpc.RpcError) as refused:
                call(asked, timeout=30)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        (folder / "catalog" / "shop.py").write_text(SECOND)
        process.send_signal(signal.SIGHUP)
        until(lambda: ask(port, cert, "second", "sesame")[0] == 200)
        (folder / "catalog" / "shop.py").write_text("what = is this\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        said = [process.stderr.readline()]
        while "the old definitions stay" not in said[-1]:
            assert said[-1], said  # it ended
            said.append(process.stderr.readline())
        assert ask(port, cert, "second", "sesame")[0] == 200
        process.send_signal(signal.SIGTERM)
        errors = "".join(said) + process.communicate(timeout=30)[1]
    events = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [(each["event"], each["status"], each["path"]) for each in events] == [
        ("refused", 401, "/v1/features"), ("refused", 401, f"/{SERVICE}/Get"),
    ]  # fmt: skip
    assert "opensaysme" not in errors


def under_load(port: int, harm: Callable[[], None]) -> tuple[list[float], int]:
    """What four askers are answered about customer 42 while harm is done, and how often they are refused."""
    values: list[float] = []
    refused: list[int] = []
    ends = threading.Event()

    def asking() -> None:
        with Client(f"http://127.0.0.1:{port}", timeout=10.0, retries=0) as client:
            while not ends.is_set():
                try:
                    values.append(client.get_features("by_customer", [{"customer_id": 42}]).rows[0].values["spend__paid_1d"])
                except (ServerRefused, ServerAway):
                    refused.append(1)

    askers = [threading.Thread(target=asking) for _ in range(4)]
    for each in askers:
        each.start()
    try:
        until(lambda: len(values) > 20)
        harm()
        before = len(values)
        until(lambda: len(values) > before + 20)
    finally:
        ends.set()
        for each in askers:
            each.join()
    return values, len(refused)


def test_a_store_that_is_killed_under_load_gives_no_wrong_answer_and_is_found_again(own_store: Path) -> None:
    url = embedded.ensure(own_store)
    with serving(url) as service:

        def harm() -> None:
            os.kill(int((own_store / "valkey.pid").read_text()), signal.SIGKILL)
            time.sleep(0.2)
            assert embedded.ensure(own_store) == url

        values, refused = under_load(service.port, harm)
    assert set(values) == {1.5}
    assert refused > 0


def test_a_worker_that_is_killed_under_load_gives_no_wrong_answer_and_is_replaced(own_store: Path) -> None:
    with serving(embedded.ensure(own_store), "workers=2", "trust=0.1") as service:
        workers = children(service.process.pid)

        def harm() -> None:
            os.kill(min(workers), signal.SIGKILL)
            until(lambda: len(children(service.process.pid) - {min(workers)}) == 2)

        values, _ = under_load(service.port, harm)
    assert set(values) == {1.5}
