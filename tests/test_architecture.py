"""The rules of ARCHITECTURE that import-linter cannot see: what is imported when, who reads the environment, who prints, what is said."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FOLDERS = (
    "dags",
    "examples",
    "expectations",
    "feature_definitions",
    "feature_registry",
    "headwater",
    "lake",
    "online_sync",
    "serving",
    "spark_jobs",
)
BESIDE_THE_KERNEL = ("catalog", "check.py", "sql/column_types.py", "sql/expressions.py", "sql/operands.py")
HEAVY = {"airflow", "feast", "great_expectations", "matplotlib", "pandas", "pyarrow", "pyspark", "sklearn"}
IMPORT_SECONDS = 0.1
MOST_FILES_OF_A_ROW = 27


def modules(*folders: str) -> list[Path]:
    """Every Python file of the folders; with none named, of the whole source."""
    return [path for folder in folders or FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def doors() -> list[Path]:
    """The front door: the Python API and the command."""
    return modules("headwater")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(node: ast.AST) -> Iterator[str]:
    """The top-level packages that are imported anywhere below `node`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in part.names)
        elif isinstance(part, ast.ImportFrom) and part.module:
            yield part.module.partition(".")[0]


def imported_at_once(module: ast.Module) -> set[str]:
    """The top-level packages that importing the module imports: not those inside functions or for the type checker only."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        name
        for statement in module.body
        if not isinstance(statement, functions) and not (isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test))
        for name in imported(statement)
    }


def loaded_by(statement: str) -> dict[str, float | list[str]]:
    """Run the statement in a fresh interpreter: the top-level packages it loads, and the CPU seconds it takes."""
    program = (
        "import json, sys, time; before = set(sys.modules); start = time.process_time()\n"
        f"{statement}\n"
        "seconds = time.process_time() - start\n"
        "print(json.dumps({'seconds': seconds, 'modules': sorted({name.partition('.')[0] for name in set(sys.modules) - before})}))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    answer: dict[str, float | list[str]] = json.loads(run.stdout)
    return answer


def names(answer: dict[str, float | list[str]]) -> set[str]:
    found = answer["modules"]
    assert isinstance(found, list)
    return set(found)


def kernel() -> list[Path]:
    """The modules of the kernel: those of `feature_definitions` that do not lie beside it."""
    beside = [ROOT / "feature_definitions" / name for name in BESIDE_THE_KERNEL]
    return [path for path in modules("feature_definitions") if not any(path == other or other in path.parents for other in beside)]


def import_of(paths: list[Path]) -> str:
    """The statement that imports the modules of these files."""
    return "import " + ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)


def test_the_language_of_definitions_imports_in_less_than_a_tenth_of_a_second() -> None:
    assert min(loaded_by("import feature_definitions")["seconds"] for _ in range(5)) < IMPORT_SECONDS


def test_the_kernel_imports_within_four_times_what_it_loads_of_the_standard_library() -> None:
    """In seconds the whole kernel depends on the machine; beside the library that it loads it does not."""
    loaded = names(loaded_by(import_of(kernel()))) & sys.stdlib_module_names
    library = "import " + ", ".join(sorted(name for name in loaded if not name.startswith("_")))
    ours, theirs = (min(loaded_by(statement)["seconds"] for _ in range(5)) for statement in (import_of(kernel()), library))
    assert ours < 4 * theirs


def test_the_kernel_loads_nothing_but_the_standard_library() -> None:
    loaded = {name for name in names(loaded_by(import_of(kernel()))) if not name.startswith("_sysconfigdata_")}
    assert loaded - sys.stdlib_module_names == {"feature_definitions"}


@pytest.mark.parametrize("path", kernel(), ids=relative)
def test_the_kernel_is_the_standard_library_only(path: Path) -> None:
    assert set(imported(tree(path))) <= sys.stdlib_module_names | {"feature_definitions"}


def test_the_kernel_never_imports_what_lies_beside_it() -> None:
    beside = {f"feature_definitions.{name.removesuffix('.py').replace('/', '.')}" for name in BESIDE_THE_KERNEL}
    importers = {
        relative(path)
        for path in kernel()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and ({node.module} | {f"{node.module}.{alias.name}" for alias in node.names}) & beside
    }
    assert not importers


def test_what_lies_beside_the_modules_is_installed_with_them() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = [(name.replace(".", "/"), each) for name, texts in settings["options.package_data"].items() for each in texts.split()]
    installed = {path for folder, pattern in patterns for path in (ROOT / folder).glob(pattern)}
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    loose = [path for path in files if path.suffix != ".py" or not (path.parent / "__init__.py").exists()]
    assert [relative(path) for path in loose if path not in installed] == []


def test_serving_loads_nothing_heavy() -> None:
    assert not names(loaded_by(import_of(modules("serving")))) & HEAVY


def test_parsing_the_dags_loads_no_engine() -> None:
    assert not set().union(*(imported_at_once(tree(path)) for path in modules("dags"))) & (HEAVY - {"airflow"})


def test_the_front_door_defers_every_heavy_import() -> None:
    assert doors()
    assert not names(loaded_by(import_of(doors()))) & HEAVY


def test_the_front_door_builds_on_no_engine_itself() -> None:
    engines = {"airflow", "feast", "great_expectations", "pyspark", "redis", "sqlalchemy", "sqlglot"}
    for door in doors():
        outside_type_checking = [
            node for node in tree(door).body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ]
        assert not {name for node in outside_type_checking for name in imported(node)} & engines


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_a_module_and_its_public_names_say_what_they_are(path: Path) -> None:
    module = tree(path)
    silent = [] if ast.get_docstring(module) else ["the module"]
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if "overload" in map(ast.unparse, node.decorator_list):
                continue
            silent += [] if ast.get_docstring(node) else [node.name]
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            silent += [
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                and not method.name.startswith("_")
                and not ast.get_docstring(method)
            ]
    assert not silent


def test_only_the_front_door_and_the_examples_print() -> None:
    printing = {
        relative(path)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {path for path in printing if not path.startswith("examples/")} <= {relative(door) for door in doors()}


def reads_environment(node: ast.AST) -> bool:
    """Whether the node takes the environment from `os`, by attribute or by import."""
    readers = {"environ", "environb", "getenv"}
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in readers
    return isinstance(node, ast.ImportFrom) and node.module == "os" and not readers.isdisjoint(alias.name for alias in node.names)


def test_the_environment_is_read_in_few_places() -> None:
    readers = {relative(path) for path in modules() if any(map(reads_environment, ast.walk(tree(path))))}
    ours = {path for path in readers if not path.startswith("examples/")}
    assert ours == {"feature_definitions/settings.py", "spark_jobs/jvm.py", "spark_jobs/session.py"}


def test_no_modules_import_each_other_in_a_circle_not_even_for_the_type_checker() -> None:
    graph = grimp.build_graph(*FOLDERS, exclude_type_checking_imports=False, cache_dir=None)
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()  # names a circle


def test_no_two_modules_have_one_name() -> None:
    """Packages apart, and the command's verbs, which are named after what they are about; a catalog's files are its owner's."""
    apart = ("/catalog/", "headwater/commands/", "/__init__.py")
    names = Counter(path.stem for path in modules() if not any(part in f"/{relative(path)}" for part in apart))
    assert {name for name, times in names.items() if times > 1} == set()


def test_no_two_public_classes_have_one_name() -> None:
    classes = (node.name for path in modules() for node in tree(path).body if isinstance(node, ast.ClassDef))
    assert {name for name, times in Counter(classes).items() if times > 1 and not name.startswith("_")} == set()


def test_spark_is_built_in_one_place() -> None:
    builders = {relative(path) for path in modules() if "getOrCreate" in path.read_text(encoding="utf-8")}
    assert builders == {"spark_jobs/session.py"}


def test_the_lock_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock


# ------------------------------------------------------------------------------------------------------------------------ the ways


_NAMED = re.compile(r"`([\w/]+\.py)`(?: \(((?:`\w+`(?:, )?)+)\))?")


def way(title: str) -> dict[str, list[str]]:
    """The files that ARCHITECTURE names under a title, or in the paragraph that begins so, each with its functions that are named."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition(f"## {title}\n")[2].partition("\nUnder both")[0].partition("\n## ")[0]
    paragraph = section or text.partition(f"\n{title} ")[2].partition("\n\n")[0].partition("tests/")[0]
    return {path: re.findall(r"\w+", functions) for path, functions in _NAMED.findall(paragraph)}


@pytest.mark.parametrize("title", ["The way of a row", "The way of an interval", "Under both"])
def test_every_file_and_function_that_a_way_names_is_there(title: str) -> None:
    found = way(title)
    assert found
    for path, functions in found.items():
        defined = {
            node.name for node in ast.walk(tree(ROOT / path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        assert set(functions) <= defined, path


def test_a_row_passes_at_most_so_many_files() -> None:
    assert len(way("The way of a row")) <= MOST_FILES_OF_A_ROW


def test_where_the_rows_of_a_source_lie_is_asked_in_one_place_of_each_stage() -> None:
    """The lake's half without Spark, what brings rows in, and what reads them."""
    asking = {
        relative(path)
        for path in modules()
        if any(isinstance(node, ast.Attribute) and node.attr == "lies_in_place" for node in ast.walk(tree(path)))
    }
    assert asking == {"lake/versions.py", "spark_jobs/ingest/bring.py", "spark_jobs/ingest/events.py"}
