"""What of a repository of Feast's is understood: its own template, value for value, and what that template does not have."""

from __future__ import annotations

import runpy
import shutil
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import headwater as hw
from tests.projects import within, write

with warnings.catch_warnings(action="ignore"):
    import feast
    from feast.repo_config import load_repo_config
    from feast.repo_operations import apply_total

    from feast_bridge import draft_catalog, repo_contents
    from feast_bridge.refused import FeastRefused

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository that `feast init` makes."""
    folder = tmp_path_factory.mktemp("template") / "drivers"
    shutil.copytree(Path(feast.__file__).parent / "templates" / "local", folder)
    with warnings.catch_warnings(action="ignore"):
        runpy.run_path(str(folder / "bootstrap.py"), run_name="__main__")
    settings = folder / "feature_repo" / "feature_store.yaml"
    settings.write_text(settings.read_text().replace("my_project", "drivers"))
    return folder / "feature_repo"


def drafted(repo: Path, root: Path) -> draft_catalog.FeastContents:
    with warnings.catch_warnings(action="ignore"):
        return repo_contents.contents(repo, root=root)


def test_the_template_is_understood_but_for_types_that_are_not_here(template: Path, tmp_path: Path) -> None:
    found = drafted(template, tmp_path)
    assert {view.name: (view.features, view.ttl) for view in found.views} == {
        "driver_hourly_stats": (("conv_rate", "acc_rate", "avg_daily_trips", "driver_config"), "1d"),
        "driver_hourly_stats_fresh": (("conv_rate", "acc_rate", "avg_daily_trips", "driver_config"), "1d"),
    }
    assert [service.name for service in found.services] == ["driver_activity_v1", "driver_activity_v2", "driver_activity_v3"]
    assert [sentence.partition(":")[0] for sentence in found.left_out] == [
        *["feature driver_metadata of view driver_hourly_stats_fresh", "feature driver_profile of view driver_hourly_stats_fresh"],
        *["view driver_hourly_stats_fresh", "feature driver_metadata of view driver_hourly_stats"],
        *["feature driver_profile of view driver_hourly_stats", "label view driver_quality_labels"],
    ]


def test_a_module_that_is_called_as_one_of_ours_is_imported_and_ours_stays(template: Path, tmp_path: Path) -> None:
    ours = sys.modules["feature_definitions"]
    drafted(template, tmp_path)
    assert sys.modules["feature_definitions"] is ours


def test_the_rows_of_the_template_are_the_same_here_as_in_feast(template: Path, spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, "headwater.toml", '[project]\nname = "drivers"\n')
    write(tmp_path, "catalog/drivers.py", draft_catalog.text(drafted(template, tmp_path)))
    rows = pd.read_parquet(template / "data" / "driver_stats.parquet")
    last = rows["event_timestamp"].max()
    asked = pd.DataFrame(
        {
            "driver_id": [1001, 1002, 1003, 1004, 1001, 7],
            "event_timestamp": [last - timedelta(hours=hours) for hours in (1.5, 30, 100, 0, 400, 5)],
            "val_to_add": [1, 2, 3, 4, 5, 6],
            "val_to_add_2": [10, 20, 30, 40, 50, 60],
        }
    )
    theirs = _by_feast(template, asked)
    with hw.open(tmp_path, clock=lambda: last.to_pydatetime() + timedelta(days=2)) as p:
        p.ingest()
        p.materialize("driver_hourly_stats")
        found = p.features(asked, "driver_activity_v1", mode="event_time", spine_is="of others").to_pandas()
    ours = found.rename(columns=lambda name: name.rpartition("__")[2].removeprefix("transformed_conv_rate_"))
    columns = ["conv_rate", "conv_rate_plus_val1", "conv_rate_plus_val2"]
    merged = asked.merge(theirs, on=["driver_id", "event_timestamp", "val_to_add", "val_to_add_2"], how="left")  # Feast drops rows
    pd.testing.assert_frame_equal(ours[columns], merged[columns], check_dtype=False, rtol=1e-6)
    assert ours["conv_rate"].notna().sum() == 4


def _by_feast(repo: Path, asked: pd.DataFrame) -> pd.DataFrame:
    """What Feast itself gives, by its own stores."""
    with repo_contents.within(repo):
        apply_total(load_repo_config(repo, repo / "feature_store.yaml"), repo, skip_source_validation=False)
        store = feast.FeatureStore(repo_path=str(repo))
        return store.get_historical_features(asked, store.get_feature_service("driver_activity_v1")).to_df()


REPO = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, KafkaSource, RedshiftSource, SnowflakeSource, StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Array, Bytes, Float32, Int64, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)
bought = SnowflakeSource(name="bought", database="D", schema="sales", table="BOUGHT", timestamp_field="at", field_mapping={"amt": "amount"})
clicked = RedshiftSource(name="clicked", query="SELECT * FROM clicks", timestamp_field="at")
fields = [Field(name="amount", dtype=Float32), Field(name="raw", dtype=Bytes)]
buys = FeatureView(name="buys", entities=[user, shop], source=bought, schema=fields)
clicks = StreamFeatureView(
    name="clicks", entities=[user], ttl=timedelta(hours=36),
    schema=[Field(name="pages", dtype=Array(String)), Field(name="n", dtype=Int64)],
    source=KafkaSource(name="events", timestamp_field="at", batch_source=clicked, topic="clicks", message_format=JsonFormat("n int"),
                       kafka_bootstrap_servers="none:9092", watermark_delay_threshold=timedelta(minutes=5)),
    aggregations=[Aggregation(column="n", function="sum", time_window=timedelta(days=1))], timestamp_field="at", mode="spark",
)
everybody = FeatureView(name="everybody", entities=[], source=clicked, schema=[Field(name="n", dtype=Int64)])
both = FeatureService(name="both", features=[buys.with_name("mine").with_join_key_map({"shop_id": "store"}), clicks[["n"]]])
"""


def test_databases_composite_keys_streams_and_what_is_left_of_them(tmp_path: Path) -> None:
    settings = "project: shop\nprovider: local\nregistry: r.db\nonline_store: null\nentity_key_serialization_version: 3\n"
    write(tmp_path, "repo/feature_store.yaml", settings)
    write(tmp_path, "repo/shop_definitions.py", REPO)
    found = drafted(tmp_path / "repo", tmp_path)
    places = {source.name: source.at for source in found.sources}
    assert places == {
        "bought": "Jdbc('BOUGHT', connection='snowflake')",
        "clicked": "Jdbc(query='SELECT * FROM clicks', connection='redshift')",
    }
    assert found.sources[0].columns["amount"] == ("double", "amt")
    assert {view.name: (dict(view.keys), view.features, view.ttl) for view in found.views} == {
        "buys": ({"user_id": "int64", "shop_id": "string"}, ("amount",), None),
        "clicks": ({"user_id": "int64"}, ("pages", "n"), "36h"),
    }
    assert [join.prefix for join in found.services[0].joins] == ["mine", None]
    said = "\n".join(found.left_out)
    for part in (
        "feature raw of view buys",
        "view everybody has no entity",
        "its KafkaSource events",
        "its aggregations (sum(n) over 1 day",
    ):
        assert part in said


def test_a_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeastRefused, match="it has no feature_store"):
        repo_contents.contents(tmp_path, root=tmp_path)


def test_a_repository_whose_modules_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "repo/feature_store.yaml", "project: shop\nprovider: local\nregistry: r.db\nentity_key_serialization_version: 3\n")
    write(tmp_path, "repo/clicks.py", "import nonesuch")
    with pytest.raises(FeastRefused, match=r"repo cannot be read: ModuleNotFoundError: No module named 'nonesuch'; its modules"):
        repo_contents.contents(tmp_path / "repo", root=tmp_path)


def test_the_command_writes_the_draft_once_and_it_holds(template: Path, tmp_path: Path) -> None:
    write(tmp_path, "headwater.toml", '[project]\nname = "drivers"\n')
    write(tmp_path, "catalog/__init__.py", '"""Nothing yet."""\n')
    done = within("source", "--from", f"feast:{template}", "--json", project=tmp_path)
    assert (done.code, done.json["source"]) == (0, "drivers_of_feast")
    assert "not imported: label view driver_quality_labels" in done.err
    assert within("check", project=tmp_path).code == 0
    again = within("source", "drivers_of_feast", "--from", f"feast:{template}", project=tmp_path)
    assert again.code == 2
    assert "is there already" in again.err
