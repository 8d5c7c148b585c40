"""Tables of a PostgreSQL database, brought up revision by revision with Alembic.

Revisions are in `migrations/versions`. SQLite has no revisions: what is missing is made at opening.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

_DRIVER = "postgresql+psycopg://"


def revision_of(url: str) -> tuple[str | None, str | None]:
    """(revision of the database, None for an empty one; the newest).

    Raises ValueError for somebody else's tables, and psycopg.Error.
    """
    newest = ScriptDirectory.from_config(_config(url)).get_current_head()
    engine = create_engine(_engine_url(url), poolclass=NullPool)
    with _as_the_driver_says_it(), engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is None and inspect(connection).get_table_names():
            raise ValueError("the database has tables that are not ours; give an empty one")
    return found, newest


def bring_up(url: str) -> None:
    """Makes the newest tables of whatever is there, each revision in one transaction."""
    with _as_the_driver_says_it():
        command.upgrade(_config(url), "head")


@contextmanager
def _as_the_driver_says_it() -> Iterator[None]:
    """A failing database raises psycopg.Error here too: nobody above knows of SQLAlchemy."""
    try:
        yield
    except DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig from error


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["url"] = _engine_url(url)
    return config


def _engine_url(url: str) -> str:
    return _DRIVER + url.partition("://")[2]
