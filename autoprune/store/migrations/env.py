"""Alembic's environment: runs inside the connection (and transaction) that ``migrate.upgrade`` hands over."""

from alembic import context

from autoprune.store.migrate import VERSION_TABLE
from autoprune.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite cannot alter columns in place.
    render_as_batch=True,
    include_name=lambda name, kind, _parents: kind != "table" or (name or "").startswith("ap_"),
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
