"""A project whose lake lies on S3: from raw files to online answers it gives what the same project gives in a folder."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from tests import projects
from tests.projects import within

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests import s3

LAKE = "s3a://shop/features/lake"
LATER = projects.NOW + timedelta(hours=1)
"""When a payment is corrected: what is published later has ids that say so."""
TAPPED = """
taps = Source("taps", columns={"customer_id": "int64", "screen": "string", "tapped_at": "timestamp"}, event_timestamp="tapped_at")
tapped = ObservationGroup("tapped", customer, taps, columns=("screen",), ttl="7d")
tapped_v1 = FeatureService("tapped_v1", joins=(Join(tapped),))
"""
"""A group that is pushed to."""
IDS = {"publish_id", "created_timestamp", "ingest_id", "_hw_ingest", "quarantined_at", "delta_version", "replaced_by", "run_id"}
"""What another run of the same has otherwise."""


@pytest.fixture(scope="module")
def there(on_s3: s3.Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the little shop says whose lake lies on S3."""
    on_s3.bucket("shop")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADWATER_LAKE", LAKE)
        return told(tmp_path_factory.mktemp("there"))


@pytest.fixture(scope="module")
def here(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it says whose lake lies in a folder."""
    return told(tmp_path_factory.mktemp("here"))


def told(folder: Path) -> dict[str, Any]:
    """What a project says that goes the whole way, corrects a payment, and has its registry restored from the lake."""
    shop = projects.shop(folder / "shop")
    projects.write(shop, "catalog/shop.py", projects.CATALOG + TAPPED)
    projects.write(shop, "data/payments/second.csv", projects.rows(projects.UNREADABLE))
    with projects.opened(shop) as p:
        p.write("visits", projects.visits())
        steps = [within(verb, "--json", project=shop) for verb in ("ingest", "materialize")]
        projects.write(shop, "data/payments/third.csv", projects.rows("p4,2,5.0,no,2026-01-05T10:00:00Z,2026-01-05T10:02:00Z"))
        steps += [within(verb, "--json", project=shop, now=LATER) for verb in ("ingest", "materialize")]
    with projects.opened(shop, now=LATER) as p:
        p.training_set("refunds")
        projects.write(shop, "data/payments/fourth.csv", projects.rows("p8,2,7.0,no,2026-01-04T11:00:00Z,2026-01-06T11:00:00Z"))
        p.ingest("payments")
        built, verified = p.append_training_set("refunds"), p.verify_training_set("refunds")
        entities = [{"customer_id": number} for number in (1, 2, 3, 99)]
        p.sync()
        answers = p.online("customer_v1", entities)
        taken = p.push("tapped", pd.DataFrame({"customer_id": [1, 2], "screen": ["a", "b"], "tapped_at": [projects.NOW] * 2}))
        pushed = p.online("tapped_v1", entities)
        erased = p.erase("customer", {"customer_id": 2})
        without_two = [p.online(service, entities) for service in ("customer_v1", "tapped_v1")]
        optimized = within("optimize", "--json", project=shop)
        before = within("status", "--json", project=shop).json["intervals"]
        p.rebuild_registry(over="anything")
        after = within("status", "--json", project=shop).json["intervals"]
        story = within("explain", "spend", "customer_id=2", "--json", project=shop)
        found = {
            "codes": [each.code for each in (*steps, optimized, story)],
            "ingested": [without(each, IDS | {"revision"}) for each in (steps[0].json["sources"], steps[2].json["sources"])],
            "intervals": without(after, IDS),
            "training set": sorted(map(str, built.to_arrow().to_pylist())),
            "life": (built.manifest["appended"], verified.verdict, verified.spine, verified.gone),
            "nulls": built.manifest["nulls"],
            "answers": answers,
            "pushed": (taken.rows, pushed, [each.state for each in erased], without_two),
            "quarantine": without(within("quarantine", "--json", project=shop).json, IDS),
            "rows": {name: sorted(map(str, without(p.read(name).to_dict("records"), IDS))) for name in ("spend", "last_page", "account")},
            "restored": before == after,
        }
        p.down()
    return found


def without(said: Any, names: set[str]) -> Any:
    """A document without some fields."""
    if isinstance(said, dict):
        return {name: without(value, names) for name, value in said.items() if name not in names}
    return [without(each, names) for each in said] if isinstance(said, list) else said


@pytest.mark.parametrize(
    "what", ["codes", "ingested", "intervals", "training set", "life", "nulls", "answers", "pushed", "quarantine", "rows", "restored"]
)
def test_a_lake_on_s3_gives_what_a_lake_in_a_folder_gives(here: dict[str, Any], there: dict[str, Any], what: str) -> None:
    assert there[what] == here[what]
    assert here[what]
