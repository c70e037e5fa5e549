"""What the command prints for people."""

from __future__ import annotations

from headwater import output


def test_a_training_set_is_shown_with_its_statuses_and_what_its_leak_report_says() -> None:
    shares = {"PRESENT": 0.75, "EMPTY": 0.25, "EXPIRED": 0.0, "NOT_FOUND": 0.0, "HELD": 0.0}
    manifest = {
        "rows": 4,
        "mode": "as_known",
        "spine": {"first": "2026-01-03T00:00:00Z", "last": "2026-01-04T00:00:00Z"},
        "statistics": {"joins": {"spend": {"rows": {}, "shares": shares, "on_modelled_times": None}}},
        "leaks": {"shift": {"rows": 4, "moved": 0}, "sentences": ["home rests on accounts"]},
    }
    lines = list(output.training_lines(manifest))
    assert lines[0] == "2026-01-03T00:00:00Z to 2026-01-04T00:00:00Z, mode as_known"
    assert [next(iter(column.cells)) for column in lines[1].columns] == ["spend", "75.0%", "25.0%", "0.0%", "0.0%", "0.0%", "-"]
    assert lines[2:] == ["4 rows computed again without what came after their time: 0 differ", "home rests on accounts"]


def test_a_training_set_without_rows_has_nothing_more_to_show() -> None:
    spine = {"first": None, "last": None}
    manifest = {"rows": 0, "mode": "as_known", "spine": spine, "leaks": {"shift": {"rows": 0, "moved": 0}, "sentences": []}}
    assert list(output.training_lines(manifest)) == []
