"""A registry says where it was moved to; PostgreSQL orders texts by their signs, as SQLite does."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text, text

revision = "7"
down_revision = "6"

_C = Text().with_variant(Text(collation="C"), "postgresql")
_TABLES = (
    "files", "revisions", "ledger", "publishes", "generations", "promotions", "releases", "epochs", "feature_maps", "tiles", "pending",
    "leases",
)  # fmt: skip


def upgrade() -> None:
    """Make the table; in PostgreSQL every text of the others is ordered anew, and their indexes are built again."""
    op.create_table(
        "moves",
        Column("move_id", _C, primary_key=True),
        Column("moved_to", _C, nullable=True),
        Column("moved_at", BigInteger, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            _order_by_signs(table)


def _order_by_signs(table: str) -> None:
    query = text(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = :table AND data_type = 'text' ORDER BY ordinal_position"
    )
    columns = op.get_bind().execute(query, {"table": table}).scalars().all()
    op.execute(f"ALTER TABLE {table} " + ", ".join(f'ALTER COLUMN "{column}" TYPE TEXT COLLATE "C"' for column in columns))
