"""What an aircraft is. Nobody wrote down since when, so history is read as if it always was."""

from feature_definitions import SnapshotGroup, expression

from .sources import aircraft, planes

plane_attributes = SnapshotGroup(
    "plane_attributes", aircraft, planes, owner="flights", assume_always_known=True,
    columns=("year", "manufacturer", "engines", "seats", "engine"),
    expect=(expression("seats > 0"), expression("year BETWEEN 1930 AND 2013", severity="warning")),
)  # fmt: skip
