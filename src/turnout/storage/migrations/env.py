"""Run by Alembic: the connection is handed in, inside the transaction that the caller commits."""

from alembic import context

from turnout.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
