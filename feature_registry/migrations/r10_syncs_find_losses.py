"""Of each sync it is known whether the store had lost rows of the one before."""

from alembic import op
from sqlalchemy import Boolean, Column

revision = "10"
down_revision = "9"


def upgrade() -> None:
    """Add the column: it is null of older syncs."""
    op.add_column("epochs", Column("found_lost", Boolean, nullable=True))
