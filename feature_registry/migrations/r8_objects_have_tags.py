"""A file on S3 is known by its tag, so that it need not be read to find that it did not change."""

from alembic import op
from sqlalchemy import Column, Text

revision = "8"
down_revision = "7"

_C = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column: a file is read again where it is null."""
    op.add_column("files", Column("tag", _C, nullable=True))
