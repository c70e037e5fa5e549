"""Of each sync it is known from when until when readers may have met rows of two syncs."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "9"
down_revision = "8"


def upgrade() -> None:
    """Add the columns: they are null of older syncs."""
    op.add_column("epochs", Column("begun_at", BigInteger, nullable=True))
    op.add_column("epochs", Column("ended_at", BigInteger, nullable=True))
