"""The domains that the language must fit (DESIGN section 4), each in one file of a catalog."""

from __future__ import annotations

from pathlib import Path

from feature_definitions import WindowedGroup
from feature_definitions.check import checked
from feature_definitions.planning import fingerprint
from feature_definitions.sql.column_types import types_as_read

DOMAINS = Path(__file__).parent / "domains"


def test_every_domain_is_accepted_as_it_is_written() -> None:
    catalog = checked(DOMAINS)
    assert {"trend", "velocity", "interests", "affinity", "contract", "behaviour", "history", "latest"} <= set(catalog.groups)
    assert set(catalog.transforms) == {"ranks", "value"}
    assert {"views", "items", "views_by_category"} <= set(catalog.sources)


def test_every_group_of_every_domain_has_types_and_fingerprints_for_its_columns() -> None:
    catalog = checked(DOMAINS)
    for group in (*catalog.groups.values(), *catalog.transforms.values()):
        assert tuple(types_as_read(group)) == tuple(fingerprint.columns(group)) == group.outputs
        assert len(set(fingerprint.columns(group).values())) == len(group.outputs)


def test_what_is_computed_has_no_by() -> None:
    groups = [group for group in checked(DOMAINS).groups.values() if isinstance(group, WindowedGroup)]
    computed = [feature for group in groups for feature in group.aggregated]
    assert all(feature.by is None for feature in computed)
    assert {"views_home_garden", "count_in_store"} <= {feature.name for feature in computed}
