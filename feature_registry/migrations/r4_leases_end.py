"""A lease says when it was renewed, who has it now and whether its tables need a fence; a generation keeps its empty values."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Text, false, text

from feature_definitions.intervals import DAY, MICROSECOND
from feature_registry.database import CLOCK

revision = "4"
down_revision = None


def upgrade() -> None:
    """Add the columns. A lease that is held now counts as renewed in a day: the older Headwater that holds it renews nothing."""
    op.add_column("leases", Column("renewed_at", BigInteger, nullable=False, server_default="0"))
    op.add_column("leases", Column("token", BigInteger, nullable=False, server_default="0"))
    op.add_column("leases", Column("unfenced", Boolean, nullable=False, server_default=false()))
    op.execute(text(f"UPDATE leases SET renewed_at = {CLOCK[op.get_bind().dialect.name]} + {DAY // MICROSECOND}"))
    op.add_column("generations", Column("empty", Text, nullable=True))
    # Versions of Headwater from before these steps look only here, and refuse what they do not know.
    op.execute(text("UPDATE registry_version SET version = 4"))
