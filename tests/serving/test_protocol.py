"""HTTP on the wire: what is near is answered without the store, in order; what is malformed, slow or too long is refused."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from online_sync import embedded
from serving.protocol import IDLE, MOST_HEAD, SLOW, AtOnce, HttpConnection, end_late_ones
from tests.serving.processes import fill, serving
from tests.serving.test_forked import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.processes import Service

NEAR = json.dumps({"service": "by_customer", "entities": [{"customer_id": 42}]}).encode()
OTHER = json.dumps({"service": "by_customer", "entities": [{"customer_id": 7}]}).encode()
FEAST = json.dumps({"feature_service": "by_customer", "entities": {"customer_id": [42]}}).encode()


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/features", version: bytes = b"1.1") -> bytes:
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


ONE = b"GET /v1/features/by_customer?customer_id=42 HTTP/1.1\r\nhost: x\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

CALL = b'{"service":"by_customer","entities":[{"name":"customer_id","integers":["42"]}]}'


class Talk:
    """A connection, and the answers that come on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._read = b""

    def say(self, *parts: bytes) -> Talk:
        for part in parts:
            self.socket.sendall(part)
        return self

    def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the next answer."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        headers = dict(each.lower().split(b": ", 1) for each in lines)
        while len(self._read) < int(headers.get(b"content-length", 0)):
            self._more()
        body, self._read = self._read[: int(headers.get(b"content-length", 0))], self._read[int(headers.get(b"content-length", 0)) :]
        return int(line.split()[1]), headers, body

    def is_over(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError(self._read)
        self._read += data

    def __del__(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows customer 42 and trusts what it knows, and whose store is gone."""
    folder = tmp_path_factory.mktemp("store")
    url = embedded.ensure(folder)
    fill(url)
    with serving(url, "trust=10000") as running:
        for body, path in ((NEAR, b"/v1/features"), (FEAST, b"/get-online-features")):
            assert Talk(running.port).say(post(body, path=path)).answer()[0] == 200
        assert Talk(running.port).say(ONE).answer()[0] == 200
        embedded.stop(folder)
        yield running


@pytest.mark.parametrize(("body", "path"), [(NEAR, b"/v1/features"), (FEAST, b"/get-online-features")])
def test_what_is_near_is_answered_at_once_and_as_the_application_does(away: Service, body: bytes, path: bytes) -> None:
    """A deadline is the application's own affair."""
    at_once = Talk(away.port).say(post(body, path=path)).answer()
    through = Talk(away.port).say(post(body, b"x-deadline-ms: 60000", path=path)).answer()
    assert (at_once[0], at_once[2]) == (through[0], through[2])
    assert set(at_once[1]) == set(through[1]) == {b"content-type", b"content-length", b"date"}
    assert Talk(away.port).say(post(OTHER)).answer()[0] == 503


@pytest.mark.parametrize("cut", [1, 7, 40, 10_000])
def test_requests_are_answered_in_order_however_they_arrive(away: Service, cut: int) -> None:
    chunked = b"POST /v1/features HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (NEAR[:5], NEAR[5:])
    )
    asked = post(NEAR) + GET + post(OTHER) + post(NEAR) + chunked + b"0\r\n\r\n" + post(b"{") + GET
    talk = Talk(away.port).say(*(asked[at : at + cut] for at in range(0, len(asked), cut)))
    answers = [talk.answer() for _ in range(7)]
    assert [status for status, _, _ in answers] == [200, 200, 503, 200, 200, 400, 200]
    assert answers[0][2] == answers[3][2] == answers[4][2]


ALL = {  # what may be asked, and its status
    post(NEAR): 200, GET: 200, post(OTHER): 503, post(b"{"): 400, post(NEAR, b"x: y"): 200, post(FEAST, path=b"/get-online-features"): 200,
    b"\r\n" + post(NEAR): 200, ONE: 200, ONE.replace(b"42", b"7"): 503, ONE.replace(b"customer_id", b"%63ustomer_id"): 200,
    b"POST /v1/features HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(NEAR), NEAR): 200,
}  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(list(ALL)), max_size=6), st.lists(st.integers(0, 1500), max_size=6))
def test_requests_are_answered_in_order_whichever_heads_were_parsed_before(away: Service, asked: list[bytes], cuts: list[int]) -> None:
    talk = Talk(away.port)
    for each in asked:
        talk.say(each)
        assert talk.answer()[0] == ALL[each]
    together = b"".join(asked)
    places = sorted({0, len(together), *(cut for cut in cuts if cut < len(together))})
    talk.say(*(together[start:end] for start, end in itertools.pairwise(places)))
    assert [talk.answer()[0] for _ in asked] == [ALL[each] for each in asked]


def test_one_entity_is_asked_by_get_and_answered_at_once_if_it_is_near(away: Service) -> None:
    at_once = Talk(away.port).say(ONE).answer()
    through = Talk(away.port).say(ONE.replace(b"\r\n\r\n", b"\r\nx-deadline-ms: 60000\r\n\r\n")).answer()
    assert (at_once[0], at_once[1][b"content-type"], at_once[2]) == (200, through[1][b"content-type"], through[2])
    for wrong, status in ((b"customer_id=x", 400), (b"customer=42", 400), (b"", 400), (b"key=42&key=42", 200)):
        assert Talk(away.port).say(ONE.replace(b"customer_id=42", wrong)).answer()[0] == status
    assert Talk(away.port).say(ONE.replace(b"by_customer", b"nobody")).answer()[0] == 404


@pytest.mark.parametrize("body", [NEAR, OTHER])
def test_who_waits_to_be_told_to_go_on_is_told(service: Service, body: bytes) -> None:
    talk = Talk(service.port).say(post(body, b"expect: 100-continue")[: -len(body)])
    assert talk.answer()[0] == 100
    assert talk.say(body).answer()[0] == 200


@pytest.mark.parametrize(("headers", "version"), [([b"connection: close"], b"1.1"), ([], b"1.0")])
def test_a_connection_that_is_to_end_ends_after_its_answer(away: Service, headers: list[bytes], version: bytes) -> None:
    talk = Talk(away.port).say(post(NEAR, *headers, version=version))
    assert talk.answer()[0] == 200
    assert talk.is_over()


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"POST /v1/features HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", post(NEAR, b"content-length: 5"), post(NEAR, b"transfer-encoding: chunked"),
        post(NEAR, b"a b: c"), b"POST /v1/features HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/features HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_the_connection_ends(away: Service, wrong: bytes) -> None:
    talk = Talk(away.port).say(wrong)
    status, headers, body = talk.answer()
    assert (status, headers[b"connection"]) == (400, b"close")
    assert "no HTTP/1.1 request" in json.loads(body)["error"]["message"]
    assert talk.is_over()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.sampled_from([post(NEAR), GET, post(b"{"), b"\r\n", b"0\r\n\r\n"]) | st.binary(max_size=30), max_size=4))
def test_no_bytes_on_the_wire_are_an_error_of_the_server(away: Service, parts: list[bytes]) -> None:
    talk, answered = Talk(away.port), b""
    with suppress(ConnectionError):
        talk.say(*parts)
        with suppress(OSError):  # it is over already
            talk.socket.shutdown(socket.SHUT_WR)
        while data := talk.socket.recv(1 << 16):
            answered += data
    assert b"HTTP/1.1 500" not in answered
    assert Talk(away.port).say(post(NEAR)).answer()[0] == 200


def test_a_head_that_never_ends_is_refused(away: Service) -> None:
    talk = Talk(away.port).say(b"GET /healthz HTTP/1.1\r\nx: ", *[b"y" * 4096] * (MOST_HEAD // 4096))
    assert talk.answer()[0] == 431


def test_many_who_say_little_keep_nobody_waiting(away: Service) -> None:
    with ExitStack() as stack:
        for i in range(300):
            talk = Talk(away.port).say(post(NEAR)[: 10 + i % 80])
            stack.callback(talk.socket.close)
        assert Talk(away.port).say(post(NEAR)).answer()[0] == 200


@pytest.mark.parametrize("said", [post(NEAR)[:40], b"", b"\x00\x01\r\n\r\n", post(NEAR) * 3, post(OTHER), GET[:-2]])
def test_who_hangs_up_leaves_nothing_behind(away: Service, said: bytes) -> None:
    held = Path(f"/proc/{away.process.pid}/fd")
    until(lambda: Talk(away.port).say(post(NEAR)).answer()[0] == 200)
    before = len(list(held.iterdir()))
    talks = [Talk(away.port).say(said) for _ in range(50)]
    for talk in talks:
        talk.socket.close()
    until(lambda: len(list(held.iterdir())) <= before)
    assert Talk(away.port).say(post(NEAR)).answer()[0] == 200


@pytest.mark.parametrize("services", [[], ["nothing"]])
def test_a_key_pays_for_each_request_once_whichever_way_it_is_answered(own_store: Path, services: list[str]) -> None:
    keys = own_store / "keys.json"
    named = {"name": "model", "sha256": hashlib.sha256(b"sesame").hexdigest(), "per_second": 3, "services": services}
    keys.write_text(json.dumps({"keys": [named]}))
    with serving(embedded.ensure(own_store), "trust=10000", f"keys={keys}") as service:
        talk = Talk(service.port)
        found = [talk.say(post(NEAR, b"authorization: Bearer sesame")).answer()[0] for _ in range(4)]  # the first head is parsed
        assert found == ([403] * 3 if services else [200] * 3) + [429]
        assert talk.say(post(NEAR)).answer()[0] == 401


# ------------------------------------------------------------------------------------------------------------- who is late


class Transport:
    """What a connection does to its socket."""

    def __init__(self) -> None:
        self.written, self.ends = b"", ""

    def get_extra_info(self, _: str, default: object = None) -> object:
        return default

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.ends = self.ends or "closed"

    def abort(self) -> None:
        self.ends = self.ends or "aborted"

    def is_closing(self) -> bool:
        return bool(self.ends)


def late(*, heard: bytes, seconds: float, stuck: bool) -> tuple[str, bytes]:
    """A connection on which something was heard, and then nothing for so many seconds."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    class Knows:
        def is_quick(self, method: bytes, _: bytes) -> bool:
            return method == b"POST"

        def at_once(self, _: object) -> AtOnce:
            return AtOnce(b"{}", b"application/json", None)

        def refused(self, _: int) -> None:
            return

    async def run() -> tuple[str, bytes]:
        connection = type("Quick", (HttpConnection,), {"quick": Knows(), "heads": {}})(Config(application), ServerState(), {})
        transport = Transport()
        connection.connection_made(cast("asyncio.Transport", transport))
        if heard:
            connection.data_received(heard)
        if stuck:
            connection.pause_writing()
        end_late_ones([connection, object()], monotonic() + seconds)
        return transport.ends, transport.written

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("heard", "seconds", "stuck", "ends", "status"),
    [
        (b"", SLOW - 1, False, "", b""), (b"", SLOW + 1, False, "closed", b"408"), (post(NEAR)[:-1], SLOW - 1, False, "", b""),
        (post(NEAR)[:-1], SLOW + 1, False, "closed", b"408"), (post(NEAR), IDLE - 1, False, "", b"200"),
        (post(NEAR), IDLE + 1, False, "closed", b"200"), (post(NEAR) + b"POST", SLOW + 1, False, "closed", b"200"),
        (post(NEAR), SLOW + 1, True, "aborted", b"200"), (GET, 10 * IDLE, False, "", b""),
    ],
)  # fmt: skip
def test_a_connection_ends_where_its_other_side_is_late(heard: bytes, seconds: float, stuck: bool, ends: str, status: bytes) -> None:
    found, written = late(heard=heard, seconds=seconds, stuck=stuck)
    assert found == ends
    assert written.split(b" ")[1:2] == ([status] if status else [])


UPGRADING = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")


def test_a_client_that_would_rather_speak_http_2_is_answered(away: Service) -> None:
    """Java's own client asks so."""
    talk = Talk(away.port)
    for _ in range(2):
        status, _, body = talk.say(post(NEAR, *UPGRADING)).answer()
        assert (status, json.loads(body)["results"][0]["values"]) == (200, {"spend__paid_1d": 1.5})
    status, _, body = talk.say(post(b'{"service":"h2c"}', b"Upgrade: h2c", b"Connection: upgrade")).answer()
    assert (status, b"entities is missing" in body) == (400, True)


@pytest.mark.parametrize("path", [b"/v1/features", b"/get-online-features", b"/headwater.v1.Features/BatchGet"])
def test_a_body_may_be_packed_by_gzip_and_by_nothing_else(service: Service, path: bytes) -> None:
    body = {b"/v1/features": NEAR, b"/get-online-features": FEAST}.get(path, CALL)
    kind, talk = b"content-type: application/json", Talk(service.port)
    plain = talk.say(post(body, kind, path=path)).answer()
    packed = talk.say(post(gzip.compress(body), kind, b"content-encoding: GZIP", path=path)).answer()
    assert (packed[0], packed[2]) == (plain[0], plain[2]) == (200, plain[2])
    status, headers, said = talk.say(post(body, kind, b"content-encoding: br", path=path)).answer()
    assert status == (501 if body is CALL else 415)
    assert (headers.get(b"accept-encoding"), b"not 'br'" in said) == (None if body is CALL else b"gzip, identity", True)
    assert talk.say(post(gzip.compress(b"0" * (64 << 20)), kind, b"content-encoding: gzip", path=path)).answer()[0] == 413


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"text/html", b"application/json"), (b"", b"application/json"), (b"*/*", b"application/json"),
        (b"application/msgpack;q=0.5, application/json", b"application/json"),
        (b"application/json;q=0.5, application/x-msgpack", b"application/msgpack"),
        (b"application/json, application/msgpack", b"application/msgpack"),
        (b"application/vnd.apache.arrow.stream;q=0, */*", b"application/json"),
        (b"application/x-protobuf, */*;q=0.1", b"application/x-protobuf"), (b"application/msgpack;q=oh", b"application/msgpack"),
        (b"msgpack-not", b"application/json"), (b"Application/MsgPack ; q=1.0", b"application/msgpack"),
    ],
)  # fmt: skip
def test_the_type_that_is_liked_best_is_answered(service: Service, accept: bytes, kind: bytes) -> None:
    status, headers, _ = Talk(service.port).say(post(NEAR, b"accept: " + accept)).answer()
    assert (status, headers[b"content-type"]) == (200, kind)


def test_accept_may_be_said_in_two_lines(service: Service) -> None:
    _, headers, _ = Talk(service.port).say(post(NEAR, b"accept: application/msgpack", b"accept: application/json;q=0.1")).answer()
    assert headers[b"content-type"] == b"application/msgpack"


def test_a_key_that_is_given_twice_with_two_values_is_refused(away: Service) -> None:
    talk = Talk(away.port)
    for _ in range(2):  # what is near, too
        assert talk.say(ONE).answer()[0] == 200
        status, _, body = talk.say(ONE.replace(b"=42", b"=7&customer_id=42")).answer()
        assert (status, json.loads(body)["error"]["field"]) == (400, "customer_id")
