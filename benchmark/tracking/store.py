"""Where results are kept: an sqlite database in the output folder, or an MLflow server reached by its address."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from benchmark.errors import MissingError, RequestError
from benchmark.tracking.empty_database import copy_empty_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS_FOLDER = "mlartifacts"

TABLE_VIEW = "adaptertune"
"""The name under which a study's experiment keeps its view of the table; see `schema.table_view`."""

PROBE_TIMEOUT_SECONDS = 4

_SQLITE_PREFIX = "sqlite:///"

_SQLITE_HEADER = b"SQLite format 3\x00"

_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""What MLflow is told unless the user's environment says otherwise: no network but the store's, nothing on stdout, and
no minutes of silent retries (`Delivery` retries, and says so)."""

_TRANSIENT_ERROR_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")


class StoreUnavailableError(MissingError):
    """The tracking store does not answer now; the same request may succeed later."""


def default_tracking_uri(output_directory: Path) -> str:
    """Return the address of the sqlite store inside an output folder, as an absolute path."""
    return f"{_SQLITE_PREFIX}{output_directory.expanduser().resolve() / 'mlflow.db'}"


def create_store(tracking_uri: str) -> None:
    """Make a store ready for several writers: create or migrate the database, or check that the server answers.

    MLflow creates its tables in about forty migrations and does not guard them: two writers that open a fresh database
    at once crash. So every command calls this first, and a file lock lets one of them do the work.

    Raises:
        RequestError: The address is none that the suite can use.
        MissingError: The folder cannot be written, or the server does not answer or refuses.
    """
    if is_sqlite(tracking_uri):
        _create_database(sqlite_path(tracking_uri))
    elif urlsplit(tracking_uri).scheme in ("http", "https"):
        _probe_server(tracking_uri)
    else:
        raise RequestError(
            "tracking-uri",
            without_password(tracking_uri),
            "a tracking address is sqlite:///ABSOLUTE/PATH.db or http(s)://HOST:PORT",
            "For another database start `mlflow server --backend-store-uri ...` and give the server's address.",
        )


def is_sqlite(tracking_uri: str) -> bool:
    """Return whether an address names an sqlite database."""
    return tracking_uri.startswith("sqlite:")


def sqlite_path(tracking_uri: str) -> Path:
    """Return the database file of an sqlite address, absolute.

    Raises:
        RequestError: The address names no file, or has a question mark, which starts options in such an address.
    """
    path = tracking_uri.removeprefix(_SQLITE_PREFIX)
    if not tracking_uri.startswith(_SQLITE_PREFIX) or path in ("", ":memory:") or "?" in path:
        raise RequestError(
            "tracking-uri", tracking_uri, "an sqlite address is sqlite:///ABSOLUTE/PATH.db, without question marks"
        )
    return Path(path).resolve()


def database_path(tracking_uri: str) -> Path | None:
    """Return the database file of an address; none where it is a server's."""
    return sqlite_path(tracking_uri) if is_sqlite(tracking_uri) else None


def local_artifacts(tracking_uri: str) -> Path | None:
    """Return the folder of a store's artifacts; none for a server, which keeps them itself."""
    database = database_path(tracking_uri)
    return database.parent / ARTIFACTS_FOLDER if database else None


def open_client(tracking_uri: str) -> MlflowClient:
    """Return a client of a store, with MLflow kept quiet and off the network."""
    _quieten_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def import_client(tracking_uri: str) -> None:
    """Import what `open_client` and the client's first question need, ahead of time."""
    _quieten_mlflow()
    importlib.import_module("mlflow")
    if is_sqlite(tracking_uri):
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")


@contextmanager
def store_errors(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow raises into the suite's errors.

    Raises:
        StoreUnavailableError: The store does not answer now.
        RequestError: The store refuses the request, so repeating it is of no use.
    """
    _quieten_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in _TRANSIENT_ERROR_CODES:
            raise _unavailable(tracking_uri, error) from error
        raise RequestError(
            "tracking-uri",
            without_password(tracking_uri),
            f"the store refused ({error.error_code}): {_redacted(tracking_uri, error)}",
        ) from error
    except OSError as error:
        raise _unavailable(tracking_uri, error) from error


def ui_command(tracking_uri: str, port: int) -> list[str]:
    """Return the command that serves MLflow's pages over a store on this machine only; see `ui_environment`.

    Raises:
        RequestError: The store is a server, which has its pages already.
    """
    if not is_sqlite(tracking_uri):
        raise RequestError(
            "tracking-uri", without_password(tracking_uri), "a server serves its own pages", "Open it in a browser."
        )
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    artifacts = ["--artifacts-destination", str(local_artifacts(tracking_uri))]
    return [*command, *artifacts, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def ui_environment() -> dict[str, str]:
    """Return the variables to add for `ui_command`: without them the server starts ten processes of 240 MB."""
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def study_page(server_address: str, experiment_id: str) -> str:
    """Return the address of a study's table of trials in MLflow's pages: best test accuracy first, telling columns."""
    view = f"workflowType=machine_learning&viewStateShareKey={TABLE_VIEW}"
    return f"{server_address.rstrip('/')}/#/experiments/{experiment_id}/runs?{view}"


def without_password(tracking_uri: str) -> str:
    """Return an address without the user and password it may carry, fit for messages and reports."""
    parts = urlsplit(tracking_uri)
    if "@" not in parts.netloc:
        return tracking_uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _quieten_mlflow() -> None:
    for name, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)


def _unavailable(tracking_uri: str, error: Exception) -> StoreUnavailableError:
    why = _redacted(tracking_uri, error)
    return StoreUnavailableError(
        f"tracking-uri: {without_password(tracking_uri)} does not answer ({why}). Check that the server runs and that "
        "this machine reaches it, or leave --tracking-uri out to keep results in the output folder."
    )


def _redacted(tracking_uri: str, error: Exception) -> str:
    """Return an error's text without the user and password of the address, which HTTP errors quote."""
    login, at_sign, _ = urlsplit(tracking_uri).netloc.rpartition("@")
    return str(error).replace(login + at_sign, "") if at_sign else str(error)


def _create_database(path: Path) -> None:
    _check_database_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise MissingError(f"tracking-uri: the folder {path.parent} cannot be written ({error})") from error
    with lock, store_errors(f"{_SQLITE_PREFIX}{path}"):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_size == 0:
            copy_empty_database(path)
        _migrate(path)


def _check_database_file(path: Path) -> None:
    """Refuse a file that is no database; MLflow would try it ten times, for more than a minute."""
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(len(_SQLITE_HEADER))
    if header not in (b"", _SQLITE_HEADER):
        raise RequestError("tracking-uri", str(path), "this file is not an sqlite database", "Name another file.")


def _migrate(path: Path) -> None:
    """Open the database, which creates its tables; one of an older MLflow is copied, then migrated.

    Raises:
        MissingError: The database is newer than the installed MLflow.
    """
    _quieten_mlflow()
    from mlflow.exceptions import MlflowException

    # MLflow before 3.17 tells of each of its forty migrations.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = f"{_SQLITE_PREFIX}{path}"
    try:
        open_client(uri)
    except MlflowException:
        if not has_other_tables(uri):
            raise
        shutil.copy2(path, path.with_name(f"{path.name}.before-migration"))
        _upgrade(uri)


def has_other_tables(uri: str) -> bool:
    """Return whether a database was written by an MLflow with other tables than the installed one."""
    _quieten_mlflow()
    from mlflow.store.db.utils import _get_latest_schema_revision, _get_schema_version, create_sqlalchemy_engine

    return _get_schema_version(create_sqlalchemy_engine(uri)) != _get_latest_schema_revision()


def _upgrade(uri: str) -> None:
    """Bring an older database to the installed MLflow's tables, as `mlflow db upgrade` does."""
    import mlflow
    from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

    try:
        _upgrade_db(create_sqlalchemy_engine(uri))
    except Exception as error:
        raise MissingError(
            f"tracking-uri: MLflow {mlflow.__version__} cannot read {uri} ({error}). A newer MLflow may have written "
            "it: install that version, or name another store."
        ) from error


def _probe_server(tracking_uri: str) -> None:
    """Ask a server one cheap question, once and with a short time-out."""
    _quieten_mlflow()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    endpoint, limit = "/api/2.0/mlflow/experiments/search", {"max_results": 1}
    try:
        credentials = get_default_host_creds(tracking_uri)
        response = http_request(
            credentials, endpoint, "GET", max_retries=0, timeout=PROBE_TIMEOUT_SECONDS, params=limit
        )
    except MlflowException as error:
        raise _unavailable(tracking_uri, error) from error
    _check_answer(tracking_uri, response.status_code, response.headers.get("content-type", ""))


def server_version(tracking_uri: str) -> str:
    """Return the version of the MLflow that answers at a server's address, which it does after its tables were read.

    Raises:
        RequestError: The address is none of an MLflow server.
        MissingError: The server does not answer or refuses this user.
    """
    create_store(tracking_uri)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        credentials = get_default_host_creds(tracking_uri)
        return str(http_request(credentials, "/version", "GET", max_retries=0, timeout=PROBE_TIMEOUT_SECONDS).text)
    except MlflowException as error:
        raise _unavailable(tracking_uri, error) from error


def _check_answer(tracking_uri: str, status_code: int, content_type: str) -> None:
    address = without_password(tracking_uri)
    if status_code in (401, 403):
        raise MissingError(
            f"tracking-uri: {address} refuses this user (HTTP {status_code}). Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if status_code != 200 or "json" not in content_type:
        raise RequestError(
            "tracking-uri", address, f"this is no MLflow server's address (HTTP {status_code}, {content_type})"
        )
