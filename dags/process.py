"""The `headwater` command as a task runs it: a process of its own, whose words go to the task's log as they come."""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

from dags.schedule import range_of
from feature_definitions import settings
from feature_definitions.errors import TRANSIENT
from feature_definitions.intervals import Interval

COMMAND = Path(sys.executable).with_name("headwater")
"""The command of the environment that Airflow runs in."""

DONE, FAILED, MISTAKE, REJECTED = 0, 1, 2, 3
_BEGINNINGS = ("error: ", "failed: ")
"""How the sentences begin by which the command says why it failed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, its document, and what it said on the way."""

    command: str
    code: int
    document: Mapping[str, Any]
    said: tuple[str, ...]

    @property
    def failure(self) -> AirflowException:
        """What Airflow should do about it: fail at once where trying again cannot help, else retry. The text is the command's own."""
        why = next((line for line in reversed(self.said) if line.startswith(_BEGINNINGS)), f"it ended with exit code {self.code}")
        sentence = f"`{self.command}`: {why.partition(': ')[2] if why.startswith(_BEGINNINGS) else why}"
        if self.code == MISTAKE and not any(TRANSIENT in line for line in self.said):
            return AirflowFailException(f"{sentence}; correct it, then clear this task")
        return AirflowException(f"{sentence}; it is tried again")


@dataclass(slots=True)
class Running:
    """Runs commands of one task in one project, and ends the one that runs with its task."""

    project: str
    hook: SubprocessHook = field(default_factory=SubprocessHook)

    def run(self, *arguments: str) -> Ended:
        """Run `headwater`, without a shell; a mistake in the catalog costs only what rests on it."""
        command = [str(COMMAND), "--sound-only", *arguments, "--json", "--project", self.project]
        said = list[str]()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
            streams: dict[str, Any] = {"stdout": answer, "stderr": subprocess.PIPE, "text": True}
            process = subprocess.Popen(command, **streams, start_new_session=True, env=_environment())
            self.hook.sub_process = process
            for line in process.stderr or ():
                said.append(line.rstrip())
                log.info("%s", said[-1])
            code = process.wait()
            answer.seek(0)
            text = answer.read()
        return Ended(f"headwater {' '.join(arguments)}", code, json.loads(text) if text.strip() else {}, tuple(said))

    def status(self, group: str, span: Interval | None) -> Sequence[Mapping[str, Any]]:
        """What the ledger knows of a group's intervals in a span, None being all times; it starts no Spark."""
        ended = self.run("status", group, "--advice", *range_of(span))
        if ended.code != DONE:
            raise ended.failure
        found: Sequence[Mapping[str, Any]] = ended.document["intervals"]
        return found

    def end(self) -> None:
        """End the command that runs, with all that it started."""
        self.hook.send_sigterm()


def _environment() -> dict[str, str]:
    """The command's environment. Only here, in the task, Airflow's connections are looked up; no log of Airflow's shows a password."""
    found = settings.of_command(_url)
    for password in sorted(settings.passwords(found)):
        mask_secret(password)
    return found


def _url(connection: str) -> str:
    try:
        return str(Connection.get(connection).get_uri())
    except AirflowNotFoundException:
        raise AirflowFailException(
            f"Airflow has no connection {connection!r}, which a HEADWATER_CONNECTION_... variable names; add it, then clear this task"
        ) from None
