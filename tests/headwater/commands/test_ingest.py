"""`ingest`: what it takes, refuses and puts aside."""

from __future__ import annotations

from pathlib import Path

from tests import projects
from tests.projects import Shop, within


def test_ingest_ends_with_3_when_rows_went_to_quarantine(shop: Shop) -> None:
    assert shop.ingest.code == 3
    payments, visits, accounts = shop.ingest.json["sources"]
    assert payments == {
        "source": "payments", "files": 2, "rows": 4, "quarantined": 1, "reasons": {"amount: is not a double": 1}, "dates_changed": 3,
        "revision": 1, "refused": [],
    }  # fmt: skip
    assert (visits["files"], visits["revision"]) == (0, None)
    assert (accounts["rows"], accounts["dates_changed"]) == (3, 1)
    assert "payments: 1 rows in quarantine: amount: is not a double" in shop.ingest.err


def test_a_refused_row_lies_in_quarantine_with_file_line_reason_and_its_columns(shop: Shop) -> None:
    (row,) = projects.table(shop.folder / "lake/quarantine/payments").to_dict("records")
    assert row.pop("quarantined_at") == projects.NOW
    assert row == {
        "file": "data/payments/second.csv", "line": 2, "reason": "amount: 'much' is not a double", "payment_id": "p9",
        "customer_id": "1", "amount": "much", "refunded": "no", "paid_at": "2026-01-05T09:00:00Z", "arrived": "2026-01-05T09:00:00Z",
    }  # fmt: skip


def test_a_file_that_can_not_be_taken_ends_ingest_with_2_and_leaves_what_was_there(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    projects.write(folder, "data/payments/third.csv", "payment_id,customer_id\nx,1\n")
    done = within("ingest", "payments", "--json", project=folder)
    assert done.code == 2
    (report,) = done.json["sources"]
    assert (report["files"], report["revision"]) == (0, None)
    assert "data/payments/third.csv has no column 'amount'" in report["refused"][0]
    assert "refused data/payments/third.csv" in done.err
