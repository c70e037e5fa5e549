"""Run Feast's own universal tests on our stores: `python tests/feast_universal/run.py FEAST_CHECKOUT [PYTEST_WORDS ...]`.

Their tests alone are copied, so that `import feast` finds the installed package. What starts containers is replaced by nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SUITES = (
    "tests/integration/offline_store/test_universal_historical_retrieval.py",
    "tests/integration/offline_store/test_universal_types.py",
    "tests/integration/online_store/test_universal_online.py",
    "tests/integration/online_store/test_universal_online_types.py",
    "tests/integration/online_store/test_universal_e2e.py",
    "tests/integration/online_store/test_push_features_to_online_store.py",
)
OF_OTHER_STORES = (
    "tests/integration/online_store/test_universal_online.py::test_async_online_retrieval_with_event_timestamps_dynamo",
    "tests/integration/online_store/test_universal_online.py::test_entity_ttl_online_store",
    "tests/integration/online_store/test_push_features_to_online_store.py::test_push_features_and_read_async_dynamodb",
)
"""What is only of DynamoDB, in a container of its own, or of a setting of Redis in Feast."""
STUB = """
import importlib.abc, importlib.machinery, sys

class Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith(__name__ + ".") else None

    def exec_module(self, module):
        module.__getattr__ = lambda name: type(name, (), {})

sys.meta_path.append(Stub())
__getattr__ = lambda name: type(name, (), {})
"""
STUBS = ("google/cloud/bigquery", "keycloak", "minio", "testcontainers")
"""Packages by which Feast's tests reach other stores, or start containers of them."""


def main(checkout: str, *words: str) -> int:
    """Copy the tests, put the stubs beside them, run pytest there."""
    work = Path(tempfile.mkdtemp(prefix="feast-universal-"))
    shutil.copytree(Path(checkout) / "sdk" / "python" / "tests", work / "tests")
    for name in STUBS:
        (work / "stubs" / name).mkdir(parents=True)
        (work / "stubs" / name / "__init__.py").write_text(STUB)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (work, work / "stubs", HERE, ROOT, os.environ.get("PYTHONPATH", "")))),
        "FULL_REPO_CONFIGS_MODULE": "headwater_repo_config",
        "FEAST_IS_LOCAL_TEST": "True",
        "IS_TEST": "True",
        "FEAST_USAGE": "False",
        "HEADWATER_SPARK_MASTER": "local[2]",
        "HEADWATER_DRIVER_MEMORY": "1g",
    }
    chosen = [word for word in words if not word.startswith("-")] or [*SUITES]
    options = [word for word in words if word.startswith("-")]
    pytest = [sys.executable, "-m", "pytest", "--integration", "-q", "-ra", "-p", "no:cacheprovider", "-W", "ignore"]
    pytest += [word for name in OF_OTHER_STORES for word in ("--deselect", name)]
    return subprocess.run([*pytest, *options, *chosen], cwd=work, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
