"""A new sqlite store's tables, made once a machine: MLflow takes forty migrations, some seconds, for each."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

from benchmark.cache_folder import open_entry
from benchmark.errors import MissingError

KIND = "tracking"

_DATABASE = "empty.db"

_logger = logging.getLogger(__name__)


def copy_empty_database(path: Path) -> None:
    """Put a database with the installed MLflow's tables and nothing in them at a place where none is yet.

    Where the cache folder cannot be written nothing happens, and MLflow makes its tables there itself.

    Args:
        path: The file; its folder exists, and nobody else writes it now.
    """
    import mlflow

    key = hashlib.sha256(mlflow.__version__.encode()).hexdigest()[:32]
    try:
        held = open_entry(KIND, key, {"name": f"empty store of MLflow {mlflow.__version__}"}, _write)
    except (MissingError, OSError) as error:
        _logger.debug("no empty database is kept: %s", error)
        return
    with held.lock:
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        shutil.copyfile(held.folder / _DATABASE, unfinished)
        unfinished.replace(path)


def _write(folder: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = create_sqlalchemy_engine(f"sqlite:///{folder / _DATABASE}")
    _initialize_tables(engine)
    engine.dispose()
