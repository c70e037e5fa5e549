"""Real S3 servers for tests, on loopback: moto of the environment, versitygw built by Go. tests/s3_proxy.py counts and delays requests.

`python -m tests.s3` builds versitygw, once, and prints where it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_jobs.jvm import jar_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, SECRET = "ADASKEY0EXAMPLE", "s3cr3t/MARK+42"
"""The keys that both servers know: nothing that a run leaves may hold the secret."""
REGION = "us-east-1"
VERSITYGW = "v1.8.0"
_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
_SECONDS = 30.0


class ServerMissing(RuntimeError):
    """versitygw is not built, and cannot be."""


@dataclass
class Server:
    """An S3 server on loopback: how it is started, and the port on which it listens."""

    command: tuple[str, ...]
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables by which every client finds it; none of them asks anybody else for keys."""
        return variables(self.endpoint)

    def client(self) -> Any:
        """A boto3 client of it."""
        return client(self.endpoint)

    def bucket(self, name: str) -> str:
        """Make an empty bucket; its path, as a lake says it."""
        self.client().create_bucket(Bucket=name)
        return f"s3a://{name}"

    def start(self) -> None:
        """Start the server on its port, on what it held before, and wait until it listens."""
        said = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **said}
            )
        until = time.monotonic() + _SECONDS
        while not _listens(self.port):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.command[0]} did not start:\n{(self.folder / 'log').read_text(errors='replace')}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server at once (SIGKILL), whatever it is doing."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=_SECONDS)
            self.process = None


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """A server that keeps everything in memory and checks no secret; gone at the end."""
    port = free_port()
    program = "import sys; from moto.server import main; sys.exit(main())"
    with _running((sys.executable, "-W", "ignore", "-c", program, "-H", "127.0.0.1", "-p", str(port)), port) as server:
        yield server


@contextlib.contextmanager
def versitygw() -> Iterator[Server]:
    """A server that keeps everything in a folder, through any kill; gone at the end. Raises ServerMissing."""
    port, program = free_port(), versitygw_program()
    with _running((str(program), "--port", f"127.0.0.1:{port}", "--quiet", "posix", "{folder}"), port) as server:
        yield server


@contextlib.contextmanager
def _running(command: tuple[str, ...], port: int) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    data = folder / "data"
    data.mkdir()
    server = Server(tuple(word.format(folder=data) for word in command), folder, port)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def versitygw_program() -> Path:
    """Where versitygw lies in Headwater's cache, built there by Go the first time; raises ServerMissing."""
    program = jar_cache().parent / "servers" / f"versitygw-{VERSITYGW}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise ServerMissing(
            "the tests of durability kill an S3 server that Go builds, but there is no Go on PATH: install Go 1.25, or one of 1.21 or later"
            " that may fetch it (Debian 13: apt-get install golang-go), then run the same command again"
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    """Build it, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=program.parent) as work:
        command = ["go", "install", "-trimpath", "-ldflags=-s -w", _MODULE]
        built = subprocess.run(command, env={**os.environ, "GOBIN": work}, capture_output=True, text=True, check=False)
        if built.returncode:
            raise ServerMissing(f"the tests of durability kill an S3 server, and Go could not build it: {built.stderr.strip()[-2000:]}")
        (Path(work) / "versitygw").rename(program)


def variables(endpoint: str) -> dict[str, str]:
    """The standard variables by which every client finds the server at an endpoint."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(endpoint: str) -> Any:
    """A boto3 client of the server at an endpoint, whatever the environment says."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5, "mode": "standard"})
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": REGION}
    return boto3.client("s3", endpoint_url=endpoint, config=config, **keys)


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        print(f"the S3 server that is killed: {versitygw_program()}")
    except ServerMissing as missing:
        sys.exit(str(missing))
