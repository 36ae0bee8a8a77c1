"""A real PostgreSQL on a free port of the loopback address, that can be stopped and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Debian keeps initdb off the path.
PROGRAMS = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
PROGRAMS += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
USER = "nobody" if os.getuid() == 0 else None
"""PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class Postgres:
    """A server and its one database, both named `mlflow`."""

    folder: Path
    port: int
    password: str

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder / 'data'}"
        self._pg_ctl("start", "-w", "-l", str(self.folder / "data" / "server.log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` as a crash does, with every connection broken off and a recovery at the next start."""
        self._pg_ctl("stop", "-w", "-m", mode)

    def _pg_ctl(self, action: str, *options: str) -> None:
        command = [str(PROGRAMS[0] / "pg_ctl"), action, "-D", str(self.folder / "data"), *options]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=True, user=USER, cwd="/", **quiet)


@contextlib.contextmanager
def postgres(password: str) -> Iterator[Postgres]:
    """Run a server with that password for its user. pytest's folders are root's, so it has one of its own."""
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), _free_port(), password)
        _initialise(server)
        server.start()
        try:
            environment = {**os.environ, "PGPASSWORD": password}
            create = [
                str(PROGRAMS[0] / "createdb"),
                "-h",
                "127.0.0.1",
                "-p",
                str(server.port),
                "-U",
                "mlflow",
                "mlflow",
            ]
            subprocess.run(create, check=True, capture_output=True, env=environment)
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()
            time.sleep(0.2)


def _initialise(server: Postgres) -> None:
    data, password_file = server.folder / "data", server.folder / "password"
    server.folder.chmod(0o755)
    data.mkdir(mode=0o700)
    shutil.chown(data, USER or os.getuid())
    password_file.write_text(server.password)
    password_file.chmod(0o644)
    command = [str(PROGRAMS[0] / "initdb"), "-D", str(data), "-U", "mlflow", "--auth=scram-sha-256"]
    subprocess.run([*command, f"--pwfile={password_file}"], check=True, capture_output=True, user=USER, cwd="/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
