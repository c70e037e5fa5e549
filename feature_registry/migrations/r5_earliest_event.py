"""A revision says when the earliest row of its date is."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Add the column; of older revisions nothing is known but the times of what they changed."""
    op.add_column("revisions", Column("earliest", BigInteger, nullable=True))
