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
    "feast_bridge",
    "feature_definitions",
    "feature_registry",
    "headwater",
    "headwater_client",
    "lake",
    "online_sync",
    "serving",
    "spark_jobs",
)
BESIDE_SQL = (
    *("column_types", "constants", "derivations", "expressions", "failing", "failing_calls", "query_rows", "query_suspects"),
    *("inference", "lineage", "lookahead", "nodes", "operands", "patterns", "plain", "queries", "syntax"),
)
BESIDE_THE_KERNEL = ("catalog", "check.py", "on_demand.py", "record_rows.py", *(f"sql/{name}.py" for name in BESIDE_SQL))
HEAVY = {"airflow", "feast", "great_expectations", "matplotlib", "onnxruntime", "pandas", "pyarrow", "pyspark", "sklearn"}
MOST_FILES_OF_A_ROW = 40


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


def loaded_by(statement: str) -> set[str]:
    """Run the statement in a fresh interpreter: the top-level packages it loads."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def calls_of(statement: str) -> int:
    """Run the statement in a fresh interpreter: how many calls of Python functions it makes."""
    program = (
        "import sys; events = []\n"
        "sys.setprofile(lambda _, event, __: events.append(event))\n"
        f"{statement}\n"
        "sys.setprofile(None); print(events.count('call'))"
    )
    return int(subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def kernel() -> list[Path]:
    """The modules of the kernel: those of `feature_definitions` that do not lie beside it."""
    beside = [ROOT / "feature_definitions" / name for name in BESIDE_THE_KERNEL]
    return [path for path in modules("feature_definitions") if not any(path == other or other in path.parents for other in beside)]


def import_of(paths: list[Path]) -> str:
    """The statement that imports the modules of these files."""
    return "import " + ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)


def test_importing_the_kernel_makes_less_than_three_times_the_calls_of_the_library_that_it_loads() -> None:
    """Seconds depend on the machine and on what else it does; calls do not."""
    loaded = loaded_by(import_of(kernel())) & sys.stdlib_module_names
    library = "import " + ", ".join(sorted(name for name in loaded if not name.startswith("_")))
    assert calls_of(import_of(kernel())) < 3 * calls_of(library)


def test_the_kernel_loads_nothing_but_the_standard_library() -> None:
    loaded = {name for name in loaded_by(import_of(kernel())) if not name.startswith("_sysconfigdata_")}
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
    assert not loaded_by(import_of(modules("serving"))) & (HEAVY | {"numpy"})


def test_parsing_the_dags_loads_no_engine() -> None:
    assert not set().union(*(imported_at_once(tree(path)) for path in modules("dags"))) & (HEAVY - {"airflow"})


def test_the_front_door_defers_every_heavy_import() -> None:
    assert doors()
    assert not loaded_by(import_of(doors())) & HEAVY


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
    assert ours == {"feature_definitions/settings.py", "lake/s3.py", "spark_jobs/jvm.py", "spark_jobs/session.py"}


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


# ------------------------------------------------------------------------------------------------------------- the lake's storage

TOUCH_FILES = {
    "dags/operators.py": "the project's folder",
    "dags/process.py": "where the command lies beside Python, and the file that takes its document",
    "feast_bridge/__main__.py": "the folders of a project and of Feast's repository",
    "feast_bridge/projects.py": "the folders of projects",
    "feast_bridge/repo_contents.py": "the folder of Feast's repository, and which ending a file has",
    "feast_bridge/repository.py": "the files of Feast's repository",
    "feature_definitions/check.py": "the catalog's folder",
    "feature_definitions/connections.py": "the file that a variable names, with a database's URL",
    "feature_definitions/loader/__init__.py": "the catalog's files",
    "feature_definitions/loader/definitions.py": "the catalog's files",
    "feature_definitions/loader/finder.py": "the catalog's files",
    "feature_definitions/loader/mistakes.py": "the catalog's files",
    "feature_definitions/loader/places.py": "the catalog's files",
    "feature_definitions/settings.py": "headwater.toml, and where the lake lies",
    "feature_registry/database.py": "the file of an SQLite registry",
    "feature_registry/migrations/__init__.py": "the migrations beside the module",
    "headwater/aside.py": "the file that rows put aside are written to",
    "headwater/commands/authoring.py": "the folders of projects and catalogs that are made and checked",
    "headwater/experiments.py": "models that a person names, and where MLflow keeps files in the project",
    "headwater/inputs.py": "spines that a person names",
    "headwater/lake_verbs.py": "the file that rows put aside are written to",
    "headwater/online_verbs.py": "a file of rows that is pushed; the models, keys and hot keys of a project",
    "headwater/output.py": "where streams that were closed go",
    "headwater/project.py": "the project's folder",
    "headwater/training_verbs.py": "the files of a spine, an export and a model",
    "lake/logs.py": "a temporary folder into which the log of a table is brought",
    "lake/processes.py": "/proc, which tells whether a process still runs",
    "lake/s3.py": "the environment, and whether there are files of profiles",
    "headwater/openlineage.py": "the file of events that a person names",
    "lake/joined.py": "the files of this machine that are joined, and where",
    "lake/split.py": "the folder of this machine that rows are parted in",
    "lake/storage.py": "the lake",
    "online_sync/address.py": "the files of TLS that the URL names",
    "online_sync/embedded.py": "the embedded store's folder in the project's state",
    "headwater/commands/feast.py": "the folder of Feast's repository",
    "headwater/commands/serve.py": "the file of API keys",
    "serving/forked.py": "the pipes on which workers show that they live",
    "serving/keys.py": "the file of API keys",
    "serving/models.py": "the folder of models",
    "serving/rpc.py": "the certificate and its key",
    "serving/warming.py": "the file of what was near, in the project's state",
    "serving/rest.py": "the folder of models, which it passes on",
    "spark_jobs/context.py": "the project's root",
    "spark_jobs/ingest/columnar.py": "input files of sources",
    "spark_jobs/ingest/files.py": "a folder for rows beside a lake on S3",
    "spark_jobs/ingest/folders.py": "input files of sources",
    "spark_jobs/ingest/globs.py": "input files of sources",
    "spark_jobs/ingest/hints.py": "input files of sources",
    "spark_jobs/ingest/in_place.py": "tables that lie in the project",
    "spark_jobs/ingest/known_ids.py": "indexes, which are made in the staging folder, or beside a lake on S3",
    "spark_jobs/ingest/landing.py": "input files of sources",
    "spark_jobs/ingest/opened.py": "input files of sources",
    "spark_jobs/ingest/parsing.py": "input files of sources",
    "spark_jobs/ingest/row_blocks.py": "rows that are kept in the staging folder, or beside a lake on S3",
    "spark_jobs/ingest/samples.py": "data that may become a source",
    "spark_jobs/ingest/trial.py": "input files of sources",
    "spark_jobs/ingest/whereabouts.py": "input files of sources",
    "spark_jobs/jvm.py": "Java, jars and classes",
    "spark_jobs/nearby.py": "copies of files on S3 among Spark's temporary files",
    "spark_jobs/session.py": "Spark's scratch folder",
    "spark_jobs/training/computed.py": "the catalog's folder",
    "spark_jobs/training/export.py": "the file that a person names for a training set",
    "spark_jobs/training/spine_files.py": "spines in files",
}
"""Who uses pathlib, os, shutil or the like, and for which files: none of the lake but `lake/storage`."""
FILE_MODULES = {"fcntl", "fileinput", "glob", "io", "os", "pathlib", "shutil", "tempfile"}
CALLS_OF_FILES = FILE_MODULES | {"Path", "PurePath", "open"}


def touches_files(module: ast.Module) -> bool:
    """Whether a module imports what opens, lists, moves or deletes files (`BytesIO` does not), or opens one itself."""
    calls = (node.func for node in ast.walk(module) if isinstance(node, ast.Call))
    harmless = {"BytesIO", "PathLike"}
    used = {
        name.partition(".")[0]
        for node in ast.walk(module)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if not {alias.name for alias in node.names} <= harmless
    }
    return bool(used & FILE_MODULES) or any(isinstance(call, ast.Name) and call.id == "open" for call in calls)


def of_the_lake(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression says a path of the lake: by the lake, by a function of `layout` over it, or by a name given such a path."""
    return any(
        (isinstance(part, ast.Name) and part.id in names)
        or (isinstance(part, ast.Attribute) and part.attr == "lake")
        or (isinstance(part, ast.Call) and ast.unparse(part.func).startswith("layout.") and any(of_the_lake(a, names) for a in part.args))
        for part in ast.walk(node)
    )


def opened_in_the_lake(function: ast.AST) -> list[str]:
    """The calls of pathlib, open, os, shutil and the like in a function that are given a path of the lake."""
    names, found = {"lake"}, list[str]()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and of_the_lake(node.value, names):
            names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] in CALLS_OF_FILES:
            found += [ast.unparse(node)] if any(of_the_lake(argument, names) for argument in node.args) else []
    return found


def test_who_touches_files_is_known_by_name() -> None:
    assert {relative(path) for path in modules() if touches_files(tree(path)) and not path.is_relative_to(ROOT / "examples")} == {
        *TOUCH_FILES
    }


@pytest.mark.parametrize("path", sorted({*TOUCH_FILES} - {"lake/storage.py"}))
def test_nobody_but_storage_opens_a_path_of_the_lake(path: str) -> None:
    functions = [node for node in ast.walk(tree(ROOT / path)) if isinstance(node, ast.FunctionDef)]
    assert [call for function in functions for call in opened_in_the_lake(function)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Path(layout.source_table(self.settings.lake, name)).exists()",
        "path = layout.landing_folder(lake, name)\n open(path)",
        "folder = f'{context.lake}/x'\n shutil.rmtree(folder)",
        "os.path.relpath(where, lake)",
    ],
)
def test_what_would_open_a_path_of_the_lake_is_noticed(text: str) -> None:
    assert opened_in_the_lake(ast.parse(f"def f(self, lake, context, name, where):\n {text}"))


def test_no_text_has_the_marks_of_a_merge_that_was_not_finished() -> None:
    texts = [
        path for ending in ("md", "py", "toml") for path in ROOT.rglob(f"*.{ending}") if not path.relative_to(ROOT).parts[0].startswith(".")
    ]
    marks = re.compile(r"^(?:<{7} |>{7} |={7}$)", re.MULTILINE)
    assert [relative(path) for path in texts if marks.search(path.read_text(encoding="utf-8"))] == []
