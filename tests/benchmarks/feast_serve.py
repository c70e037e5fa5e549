"""`feast serve` with the features of a group in a Redis: what our server is compared with."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.asking import ask, connected, cpu_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.asking import Case


def filled(repo: Path, url: str, *, features: int, entities: int) -> None:
    """A repository of Feast's with one view and one service, and the rows of entities in its store, which is a Redis at the URL."""
    import pandas as pd

    with warnings.catch_warnings(action="ignore"):
        import feast
        from feast import types
        from feast.infra.offline_stores.file_source import FileSource

        repo.mkdir()
        host, password = url.removeprefix("redis://:").partition("@")[2].partition("/")[0], url.split(":")[2].partition("@")[0]
        (repo / "feature_store.yaml").write_text(
            f"project: bench\nregistry: {repo / 'registry.db'}\nprovider: local\nentity_key_serialization_version: 3\n"
            f'offline_store:\n  type: file\nonline_store:\n  type: redis\n  connection_string: "{host},password={password}"\n'
        )
        chance, kinds = random.Random(7), {f"f{i}_1d": types.Float64 if i % 2 else types.Int64 for i in range(features)}
        rows = pd.DataFrame(
            {
                "customer_id": range(entities),
                "event_timestamp": datetime.now(UTC),
                **{
                    n: [chance.random() if k is types.Float64 else chance.randrange(9**6) for _ in range(entities)]
                    for n, k in kinds.items()
                },
            }
        )
        rows.to_parquet(repo / "rows.parquet")
        customer = feast.Entity(name="customer_id", join_keys=["customer_id"], value_type=feast.ValueType.INT64)
        view = feast.FeatureView(
            name=f"spend_{features}", entities=[customer], schema=[feast.Field(name=n, dtype=k) for n, k in kinds.items()],
            source=FileSource(path=str(repo / "rows.parquet"), timestamp_field="event_timestamp"), ttl=timedelta(days=300),
        )  # fmt: skip
        store = feast.FeatureStore(repo_path=str(repo))
        store.apply([customer, view, feast.FeatureService(name=f"of_{features}", features=[view])])
        store.write_to_online_store(f"spend_{features}", rows)


@contextmanager
def serving(repo: Path, port: int) -> Iterator[int]:
    """The server, with one worker, at a port; yields its process id."""
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(repo), "serve", "--port", str(port), "--no-access-log"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()


def cost(port: int, pid: int, case: Case, *, requests: int) -> float:
    """Microseconds of CPU per request, after some that warm it."""
    connections = connected(port, 10)
    ask(connections, case, times=20)
    before = cpu_of(pid)
    ask(connections, case, times=requests)
    return (cpu_of(pid) - before) / requests * 1e6
