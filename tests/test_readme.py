"""The README and the pages under docs keep what they promise: every command in the README runs, every link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
PROSE_COLUMNS = 120


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def with_curl(folder: Path) -> Path:
    """A folder with as much of curl as the README needs, for machines that have none: it posts what `-d` says to the last word."""
    program = """
        import sys, time, urllib.error, urllib.request
        body, url = sys.argv[sys.argv.index("-d") + 1].encode(), "http://" + sys.argv[-1]
        for _ in range(40):
            try:
                print(urllib.request.urlopen(url, body).read().decode())
                sys.exit()
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError):
                    raise
                time.sleep(1)
        sys.exit(7)
    """
    folder.mkdir()
    (folder / "curl").write_text(f"#!{sys.executable}\n{textwrap.dedent(program)}", encoding="utf-8")
    (folder / "curl").chmod(0o755)
    return folder


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def test_the_readme_is_short() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) >= PROSE_COLUMNS] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_prose_keeps_to_its_columns(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in text.splitlines() if len(line) > PROSE_COLUMNS and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_two_commands_are_targets_that_run_the_demo_and_the_suite() -> None:
    told = [line.split("#")[0].split() for line in blocks(README, "sh")[0].splitlines()]
    assert told == [["make", "demo"], ["make", "test"]]
    recipes = [subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout for _, target in told]
    assert ".venv/bin/headwater demo" in recipes[0]
    assert ".venv/bin/python -m pytest" in recipes[1]


def test_the_group_of_the_readme_is_the_one_that_init_writes() -> None:
    written = (ROOT / "examples/starter_files/catalog/customer_spend.py").read_text(encoding="utf-8")
    assert blocks(README, "python")[0] == written.replace("  # fmt: skip", "")


def test_every_command_of_the_readme_runs_one_after_the_other(tmp_path: Path) -> None:
    """As a reader would: one shell, in an empty folder with the environment in it, the Python too; the server is asked and then stopped."""
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    _, begin, look, serve = blocks(README, "sh")
    program = tmp_path / "program.py"
    program.write_text(blocks(README, "python")[1], encoding="utf-8")
    serve = serve.replace("8000", str(free_port())).replace("curl ", "curl --silent --fail --retry 40 --retry-connrefused --retry-delay 1 ")
    stop = "trap 'kill $(jobs -p)' EXIT"  # also where a command fails: nobody waits for the server then
    lines = [begin, look, f"python {program}", stop, serve, "", "headwater down"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    if shutil.which("curl") is None:
        environment["PATH"] = f"{with_curl(tmp_path / 'bin')}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(
        ["bash", "-e", "-m"],
        input="\n".join(lines),
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "customer_spend__spend_30d" in run.stdout
    assert run.stdout.count('"results"') + run.stdout.count("'results'") == 2
