"""Alembic's folder: revisions of the PostgreSQL tables."""
