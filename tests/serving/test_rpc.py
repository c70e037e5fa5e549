"""gRPC and Connect: official clients get what JSON gets, errors have codes, and the messages are those of the .proto."""

from __future__ import annotations

import json
import struct
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from connectrpc.client import ConnectClientSync
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st

from online_sync import embedded
from serving.forms import PLAIN, Beside, Said
from serving.messages import SERVICE, MessagesForm, message
from serving.request import compile_service
from tests.serving.processes import fill, serving
from tests.serving.test_answer import by_customer
from tests.serving.test_protocol import Talk, post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.processes import Service

PROTO = Path(__file__).parent.parent.parent / "serving" / "proto"
GET, BATCH = message("GetRequest"), message("BatchGetRequest")
COLUMN = message("Column")
METHODS = {"Get": (GET, message("GetResponse")), "BatchGet": (BATCH, message("BatchGetResponse"))}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that answers by gRPC, too."""
    folder = tmp_path_factory.mktemp("store")
    url = embedded.ensure(folder)
    fill(url)
    with serving(url, "grpc=0", "trust=10000") as running:
        yield running
    embedded.stop(folder)


@pytest.fixture(scope="module")
def channel(both: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{both.calls}") as found:
        yield found


def by_grpc(channel: grpc.Channel, method: str, request: Any) -> Any:
    asked, answered = METHODS[method]
    call = channel.unary_unary(
        f"/{SERVICE}/{method}", request_serializer=asked.SerializeToString, response_deserializer=answered.FromString
    )
    return call(request, timeout=30)


def by_connect(port: int, method: str, request: Any, *, codec: Any) -> Any:
    asked, answered = METHODS[method]
    info = MethodInfo(
        name=method, service_name=SERVICE, input=asked, output=answered, idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
        stream_type=StreamType.UNARY,
    )  # fmt: skip
    with ConnectClientSync(f"http://127.0.0.1:{port}", codec=codec) as client:
        return client.execute_unary(request=request, method=info)


CODECS = [google_protobuf_binary_codec(), google_protobuf_json_codec()]
ONE = GET(service="by_customer", entity={"customer_id": message("Value")(integer=42)})
MANY = BATCH(service="by_customer", entities=[COLUMN(name="customer_id", integers=[42, 7])])


def as_json(names: Any, result: Any) -> dict[str, Any]:
    """A result, in the words of JSON's rows, without the entity."""
    values = [getattr(value, value.WhichOneof("kind")) if value.WhichOneof("kind") else None for value in result.values]
    status = [
        message("BatchGetResponse").DESCRIPTOR.file.enum_types_by_name["Status"].values_by_number[each].name for each in result.statuses
    ]
    return {
        "values": dict(zip(names.features, values, strict=True)),
        "status": dict(zip(names.parts, status, strict=True)),
        "event_timestamp": {name: time or None for name, time in zip(names.parts, result.event_timestamps, strict=True)},
    }


def test_all_ways_answer_alike(both: Service, channel: grpc.Channel) -> None:
    asked = {"service": "by_customer", "entities": [{"customer_id": 42}, {"customer_id": 7}]}
    rows = [{part: row[part] for part in ("values", "status", "event_timestamp")} for row in both.features(asked).body["results"]]
    for _ in range(2):  # what is not near, and what is
        one, many = by_grpc(channel, "Get", ONE), by_grpc(channel, "BatchGet", MANY)
        assert as_json(one.names, one.result) == rows[0]
        assert [as_json(many.names, each) for each in many.results] == rows
        for codec in CODECS:
            assert by_connect(both.port, "Get", ONE, codec=codec) == one
            assert by_connect(both.port, "BatchGet", MANY, codec=codec) == many


def test_calls_are_answered_as_soon_as_it_is_said_that_it_serves(own_store: Path) -> None:
    with serving(embedded.ensure(own_store), "grpc=0") as running, grpc.insecure_channel(f"127.0.0.1:{running.calls}") as found:
        assert by_grpc(found, "Get", ONE).result.statuses == [1]


def test_a_body_of_json_is_answered_in_protobuf_to_who_accepts_it(both: Service, channel: grpc.Channel) -> None:
    asked = json.dumps({"service": "by_customer", "entities": [{"customer_id": 42}, {"customer_id": 7}]}).encode()
    status, headers, body = Talk(both.port).say(post(asked, b"accept: application/x-protobuf")).answer()
    assert (status, headers[b"content-type"]) == (200, b"application/x-protobuf")
    assert message("BatchGetResponse").FromString(body) == by_grpc(channel, "BatchGet", MANY)


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("Get", GET(service="nobody"), "NOT_FOUND"), ("Get", GET(service="by_customer"), "INVALID_ARGUMENT"),
        ("BatchGet", BATCH(service="by_customer"), "INVALID_ARGUMENT"),
        ("BatchGet", BATCH(service="by_customer", entities=[COLUMN(name="customer_id", texts=["a"])]), "INVALID_ARGUMENT"),
        ("BatchGet", BATCH(service="by_customer", entities=[COLUMN(name="customer_id", texts=["a"], integers=[1])]), "INVALID_ARGUMENT"),
        ("Get", GET(service="by_customer", entity=ONE.entity, max_staleness="soon"), "INVALID_ARGUMENT"),
    ],
)  # fmt: skip
def test_a_mistake_has_a_code_and_a_sentence(both: Service, channel: grpc.Channel, method: str, request_: Any, code: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        by_grpc(channel, method, request_)
    assert refused.value.code() == grpc.StatusCode[code]
    for codec in CODECS:
        with pytest.raises(ConnectError) as said:
            by_connect(both.port, method, request_, codec=codec)
        assert said.value.code == Code[code]
        assert said.value.message == refused.value.details()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([b"content-type: text/plain"], 415, "invalid_argument"),
        ([b"content-type: application/proto", b"connect-protocol-version: 2"], 400, "invalid_argument"),
        ([b"content-type: application/proto", b"content-encoding: br"], 501, "unimplemented"),
        ([b"content-type: application/proto", b"content-encoding: gzip"], 400, "invalid_argument"),
        ([b"content-type: application/proto", b"connect-timeout-ms: soon"], 400, "invalid_argument"),
        ([b"content-type: application/json"], 400, "invalid_argument"),
    ],
)
def test_a_call_of_connect_that_is_wrong_is_refused_in_its_words(both: Service, headers: list[bytes], status: int, code: str) -> None:
    found = Talk(both.port).say(post(ONE.SerializeToString(), *headers, path=f"/{SERVICE}/Get".encode())).answer()
    assert (found[0], json.loads(found[2])["code"]) == (status, code)


def test_health_and_reflection_answer_their_official_clients(both: Service, channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == health_pb2.HealthCheckResponse.SERVING
    found = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in found.get_services()
    assert found.FindFileContainingSymbol(SERVICE).service[0].name == "Features"


def test_who_watches_the_health_is_told_of_each_change_until_the_server_ends(own_store: Path) -> None:
    with serving(embedded.ensure(own_store), "grpc=0") as running, grpc.insecure_channel(f"127.0.0.1:{running.calls}") as found:
        health = health_pb2_grpc.HealthStub(found)
        watched = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=60)
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=60)
        assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        embedded.stop(own_store)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        running.process.terminate()
        assert list(watched) == list(unknown) == []


@settings(max_examples=60, deadline=None)
@given(method=st.sampled_from(["Get", "BatchGet"]), data=st.binary(max_size=60) | st.just(MANY.SerializeToString()))
def test_no_bytes_of_a_call_are_an_error_of_the_server(both: Service, channel: grpc.Channel, method: str, data: bytes) -> None:
    try:
        channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=30)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    status, _, _ = Talk(both.port).say(post(data, b"content-type: application/proto", path=f"/{SERVICE}/{method}".encode())).answer()
    assert status in (200, 400, 404)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">IB", 0xFFFFFF00, 1) * 9,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_frames_that_are_no_grpc_keep_nobody_from_being_answered(both: Service, channel: grpc.Channel, frame: bytes) -> None:
    assert both.calls is not None
    with closing(Talk(both.calls).say(frame).socket):
        assert by_grpc(channel, "Get", ONE).result.statuses == [1]


def test_what_protoc_made_is_that_of_the_proto(tmp_path: Path) -> None:
    made = tmp_path / "features.binpb"
    assert protoc.main(["protoc", f"-I{PROTO}", f"--descriptor_set_out={made}", "headwater/v1/features.proto"]) == 0
    shipped = (PROTO / "headwater/v1/features.binpb").read_bytes()
    assert descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()) == descriptor_pb2.FileDescriptorSet.FromString(shipped)


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)


@given(st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=4), st.booleans())
def test_pieces_are_the_messages_that_protobuf_itself_reads(values: list[Any], stale: bool) -> None:
    form = MessagesForm(compile_service(by_customer))
    found = message("BatchGetResponse").FromString(form.whole([form.piece((), [Said("EMPTY", values, None)])], Beside(stale=stale)))
    assert found.stale == stale
    assert [plain(value) for value in found.results[0].values] == values
    assert form.whole([], PLAIN) == found.__class__(names=found.names).SerializeToString()


def plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return None if kind is None else [plain(each) for each in value.list.values] if kind == "list" else getattr(value, kind)
