"""Tables of a PostgreSQL database, brought up revision by revision with Alembic.

Revisions are in `migrations/versions`. SQLite has no revisions: what is missing is made at opening.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

_DRIVER = "postgresql+psycopg://"


def revision_of(url: str) -> tuple[str | None, str | None]:
    """(revision of the database, None for an empty one; the newest). Raises ValueError for somebody else's tables."""
    newest = ScriptDirectory.from_config(_config(url)).get_current_head()
    engine = create_engine(_engine_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is None and inspect(connection).get_table_names():
            raise ValueError("the database has tables that are not ours; give an empty one")
    return found, newest


def bring_up(url: str) -> None:
    """Makes the newest tables of whatever is there, each revision in one transaction."""
    command.upgrade(_config(url), "head")


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["url"] = _engine_url(url)
    return config


def _engine_url(url: str) -> str:
    return _DRIVER + url.partition("://")[2]
