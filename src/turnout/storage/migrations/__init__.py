"""Alembic's environment and revisions: additive within a major version, each numbered after the one before."""
