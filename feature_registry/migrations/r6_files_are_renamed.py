"""A file that was renamed says by which path its rows go."""

from alembic import op
from sqlalchemy import Column, Text

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the column: rows go by the file's own path where it is null."""
    op.add_column("files", Column("came_as", Text, nullable=True))
