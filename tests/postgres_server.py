"""A real PostgreSQL on a free port, here or on a host of tests/cluster/hosts.py, that can be stopped and started."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

# Debian keeps initdb off the path.
PROGRAMS = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
PROGRAMS += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_NOBODY = pwd.getpwnam("nobody")
AS_USER = ["setpriv", f"--reuid={_NOBODY.pw_uid}", f"--regid={_NOBODY.pw_gid}", "--clear-groups"]
AS_USER = AS_USER if os.getuid() == 0 else []
"""PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class Postgres:
    """A server and its one database, both named `mlflow`; `within` is what runs a command on its host."""

    folder: Path
    port: int
    password: str
    within: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """Where programs of its host reach it."""
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder / 'data'}"
        self._pg_ctl("start", "-w", "-l", str(self.folder / "data" / "server.log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` as a crash does, with every connection broken off and a recovery at the next start."""
        self._pg_ctl("stop", "-w", "-m", mode)

    def initialise(self) -> None:
        data, password_file = self.folder / "data", self.folder / "password"
        self.folder.chmod(0o755)
        data.mkdir(mode=0o700)
        shutil.chown(data, _NOBODY.pw_uid if AS_USER else os.getuid())
        password_file.write_text(self.password)
        password_file.chmod(0o644)
        options = ["-D", str(data), "-U", "mlflow", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        subprocess.run([*self.within, *AS_USER, _program("initdb"), *options], check=True, capture_output=True, cwd="/")

    def create_database(self) -> None:
        command = [_program("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow"]
        environment = {**os.environ, "PGPASSWORD": self.password}
        subprocess.run([*self.within, *command], check=True, capture_output=True, env=environment)

    def _pg_ctl(self, action: str, *options: str) -> None:
        command = [*self.within, *AS_USER, _program("pg_ctl"), action, "-D", str(self.folder / "data"), *options]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=True, cwd="/", **quiet)


@contextlib.contextmanager
def postgres(password: str, within: tuple[str, ...] = ()) -> Iterator[Postgres]:
    """Run a server with that password for its user. pytest's folders are root's, so it has one of its own."""
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), free_port(), password, within)
        server.initialise()
        server.start()
        try:
            server.create_database()
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()
            time.sleep(0.2)


def _program(name: str) -> str:
    return str(PROGRAMS[0] / name)
