"""A command of the suite as a Ray job: packaged, submitted, followed.

What is sent is a folder that the suite stages itself: its four packages and the study's file, and nothing of the folder
the user is in. So there is no list of excludes to keep: no data, no results, no `.env`, no `.git` can be in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.errors import MissingError, RequestError
from benchmark.provenance import GIT_VARIABLE, git_variable
from launch.interrupts import INTERRUPTED
from launch.staging import stage_sources

STAGED_STUDY = "study.yaml"
DEFAULT_REMOTE_OUTPUT = "${ADAPTERTUNE_OUTPUT:-$HOME/adaptertune-output}"
"""Below the head's home: a job's own working folder is removed with the job, and the results would go with it."""

_SILENCE_SECONDS = 60.0
_SECONDS_BETWEEN_QUESTIONS = 1.0
_URL = re.compile(r"^https?://[^\s/@]+/?$")
_SERVER = re.compile(r"^(?!sqlite:)[a-z][a-z0-9+.-]*://[^/]")
_FOUND_FROM_THE_HEAD = ("/", "sqlite:////", "file:///")
_NAME_OF_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

# Ray's client would prefer these to the address it is given.
_OVERRIDING_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


@dataclass(frozen=True)
class RemoteCommand:
    """A command of the suite that a cluster's head is to run.

    Attributes:
        name: The command, such as `run`.
        study: A shipped study's name, or a file of this machine.
        options: The command's options besides `--output`.
        output: The results' folder on the head; none for `DEFAULT_REMOTE_OUTPUT`.
        python: The head's interpreter that has the suite's dependencies, as its shell finds it.
        variables: Environment variables of the job. The dashboard shows them.
    """

    name: str
    study: str
    options: Sequence[str] = ()
    output: str | None = None
    python: str = "python"
    variables: Mapping[str, str] | None = None

    @property
    def study_file(self) -> Path | None:
        """The file that travels with the job; none for a shipped study."""
        path = Path(self.study)
        return path if path.is_file() else None

    def entrypoint(self) -> str:
        """Return the shell command that the head runs."""
        study = STAGED_STUDY if self.study_file else self.study
        words = [self.python, "-m", "tuning", self.name, study, *self.options]
        output = shlex.quote(self.output) if self.output else f'"{DEFAULT_REMOTE_OUTPUT}"'
        return f"{shlex.join(words)} --output {output}"


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: Ray's word: SUCCEEDED, FAILED or STOPPED.
        exit_status: The command's.
        message: Ray's explanation.
    """

    status: str
    exit_status: int
    message: str


def check_dashboard_address(address: str) -> str:
    """Return the address of a cluster's dashboard, which takes jobs.

    Raises:
        RequestError: It is no such address.
    """
    if not _URL.match(address):
        rule = "give the address of the cluster's dashboard: http://HOST:8265 or https://HOST"
        hint = "ray:// and HOST:6379 are other doors of the same head." if address.startswith("ray://") else ""
        raise RequestError("--address", address, rule, hint)
    return address.rstrip("/")


def check_remote_output(output: str | None) -> None:
    """Refuse an output folder that would lie in the job's own, which is removed with the job.

    Raises:
        RequestError: It is relative.
    """
    if output is not None and not PurePosixPath(output).is_absolute():
        hint = "Best a folder that outlives the cluster, such as a shared file system's."
        raise RequestError("--output", output, "on a cluster, give an absolute path of the head node", hint)


def check_remote_tracking(uri: str | None) -> None:
    """Refuse a tracking store that the head would not find, or an address that shows a password.

    Raises:
        RequestError: It is one of the two.
    """
    if uri is None:
        return
    if not (uri.startswith(_FOUND_FROM_THE_HEAD) or _SERVER.match(uri)):
        raise RequestError("--tracking-uri", uri, "on a cluster, give a server's address or an absolute path")
    if re.search(r"://[^/@]*:[^/@]*@", uri):
        hidden = re.sub(r":[^/@:]*@", ":...@", uri)
        hint = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where `ray start` runs."
        raise RequestError("--tracking-uri", hidden, "the cluster's dashboard would show the password", hint)


def read_variables(settings: Sequence[str]) -> dict[str, str]:
    """Return environment variables given as `NAME=VALUE`, or as `NAME` for this process's value.

    Raises:
        RequestError: A name is none, or is not set here.
    """
    variables = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not _NAME_OF_VARIABLE.match(name):
            raise RequestError("--env", setting, "must have the form NAME or NAME=VALUE")
        if not separator and name not in os.environ:
            raise RequestError("--env", setting, "is not set here", f"Give a value: --env {name}=VALUE.")
        variables[name] = value if separator else os.environ[name]
    return variables


def stage(command: RemoteCommand, folder: Path) -> None:
    """Put what the job needs into an empty folder: the suite's packages and the study's file."""
    stage_sources(folder)
    if command.study_file:
        shutil.copyfile(command.study_file, folder / STAGED_STUDY)


def connect_to_dashboard(address: str) -> Any:
    """Return Ray's client of a cluster's jobs.

    Raises:
        MissingError: Nothing answers there, or it refuses.
    """
    try:
        from ray.job_submission import JobSubmissionClient

        with _without_overriding_variables():
            return JobSubmissionClient(address)
    except (ConnectionError, OSError, RuntimeError, ImportError) as error:
        hint = "Start the head with `ray start --head` (it needs ray[default]), or open a way: ssh -L 8265:HEAD:8265."
        raise MissingError(f"No Ray dashboard takes jobs at {address}: {error} {hint}") from error


def submit(client: Any, command: RemoteCommand) -> str:
    """Send a command to the cluster; return the job's id."""
    variables = {"PYTHONUNBUFFERED": "1", GIT_VARIABLE: git_variable(), **(command.variables or {})}
    with tempfile.TemporaryDirectory(prefix="adaptertune-job-") as folder:
        stage(command, Path(folder))
        job_id = client.submit_job(
            entrypoint=command.entrypoint(),
            runtime_env={"working_dir": folder, "env_vars": variables},
            metadata={"adaptertune_command": command.name, "adaptertune_study": Path(command.study).stem},
        )
    return str(job_id)


def follow(client: Any, job_id: str, write: Callable[[str], object]) -> JobEnd:
    """Hand on a job's log until it ends, across breaks of the connection; return how it ended.

    Raises:
        MissingError: The cluster has not answered for a minute; the job may go on.
    """
    reader = _LogReader(client, job_id, write)
    last_answer = time.monotonic()
    while True:
        try:
            reader.read_on()
            end = job_end(client, job_id)
            last_answer = time.monotonic()
            if end is not None:
                reader.read_rest()
                return end
        except (OSError, RuntimeError) as error:
            if time.monotonic() - last_answer > _SILENCE_SECONDS:
                hint = f"It may go on; look again with: ray job logs --follow {job_id}"
                raise MissingError(f"The cluster no longer answers about job {job_id}: {error} {hint}") from error
        time.sleep(_SECONDS_BETWEEN_QUESTIONS)


def job_end(client: Any, job_id: str) -> JobEnd | None:
    """Return how a job ended, or none while it has not."""
    info = client.get_job_info(job_id)
    if not info.status.is_terminal():
        return None
    exit_status = info.driver_exit_code
    if exit_status is None or str(info.status) == "STOPPED":
        exit_status = {"SUCCEEDED": 0, "STOPPED": INTERRUPTED}.get(str(info.status), 1)
    # A command that a signal ended has a negative status here, and a shell's convention elsewhere.
    return JobEnd(str(info.status), exit_status if exit_status >= 0 else 128 - exit_status, info.message or "")


class _LogReader:
    """Reads a job's log once, however often the connection breaks: each new one begins at the log's start."""

    def __init__(self, client: Any, job_id: str, write: Callable[[str], object]) -> None:
        self._client = client
        self._job_id = job_id
        self._write = write
        self._num_shown = 0

    def read_on(self) -> None:
        """Hand on what comes until the server closes the log."""
        import aiohttp

        try:
            asyncio.run(self._follow())
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    def read_rest(self) -> None:
        """Hand on what the log had left when its server closed it: a short job may end before it is followed."""
        self._show(self._client.get_job_logs(self._job_id), num_before=0)

    async def _follow(self) -> None:
        num_before = 0
        async for text in self._client.tail_job_logs(self._job_id):
            self._show(text, num_before)
            num_before += len(text)

    def _show(self, text: str, num_before: int) -> None:
        new = text[max(0, self._num_shown - num_before) :]
        if new:
            self._write(new)
            self._num_shown = num_before + len(text)


@contextlib.contextmanager
def _without_overriding_variables() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in _OVERRIDING_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
