"""Stores by TLS for tests: certificates that are made for them, and servers that show them and ask for one."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.online_sync.conftest import alone, free_port, listens
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OWN = shutil.which("redis-server")
"""A server that has TLS itself, as Debian's has; the wheel's Valkey has none."""


@dataclass(frozen=True)
class Certificates:
    """The files of an authority, and those of a server and of a client that it vouches for."""

    folder: Path

    def file(self, name: str) -> Path:
        """Of `ca`, `server`, `client` the certificate; of `server-key`, `client-key` the key."""
        return self.folder / f"{name}.pem"

    @property
    def of_client(self) -> str:
        """What a URL says of a client's certificate and of the authority."""
        files = {"ssl_ca_certs": "ca", "ssl_certfile": "client", "ssl_keyfile": "client-key"}
        return "&".join(f"{option}={self.file(name)}" for option, name in files.items())


def certificates(folder: Path) -> Certificates:
    """Make an authority, and what it vouches for; the server's certificate is for 127.0.0.1."""
    made, authority = Certificates(folder), ec.generate_private_key(ec.SECP256R1())
    for name in ("ca", "server", "client"):
        key = authority if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        now, here = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        whom = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = (
            x509.CertificateBuilder().subject_name(whom).issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([here]), critical=False)
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )  # fmt: skip
        made.file(name).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        made.file(f"{name}-key").write_bytes(secret)
    return made


@contextmanager
def by_tls(folder: Path, made: Certificates, *words: str, own: str | None = None) -> Iterator[int]:
    """The port of a server by TLS that demands a client's certificate: one that has TLS itself (`own`), or Valkey behind a terminator."""
    if own is None:
        with alone(folder, *words) as (port, _), terminated(port, made) as secured:
            yield secured
        return
    port = free_port()
    files = {"--tls-cert-file": "server", "--tls-key-file": "server-key", "--tls-ca-cert-file": "ca"}
    settings = [word for option, name in files.items() for word in (option, str(made.file(name)))]
    command = [own, "--port", "0", "--tls-port", str(port), "--save", "", "--dir", str(folder), *settings, *words]
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(port), pause=0.01)
            yield port
        finally:
            process.kill()


@contextmanager
def terminated(port: int, made: Certificates) -> Iterator[int]:
    """A port that speaks TLS and passes on what it is told to another one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.file("ca")))
    context.load_cert_chain(made.file("server"), made.file("server-key"))
    context.verify_mode = ssl.CERT_REQUIRED
    secured, loop, over = free_port(), asyncio.new_event_loop(), asyncio.Event()

    async def served() -> None:
        async with await asyncio.start_server(lambda *ends: _joined(ends, port), "127.0.0.1", secured, ssl=context):
            await over.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(served(),))
    thread.start()
    try:
        until(lambda: listens(secured), pause=0.01)
        yield secured
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


async def _joined(ends: Sequence[Any], port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await asyncio.gather(_passed(ends[0], writer), _passed(reader, ends[1]))
    for each in (writer, ends[1]):
        each.close()


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
