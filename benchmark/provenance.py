"""Where a result comes from: sources, commit, package versions, host."""

from __future__ import annotations

import functools
import getpass
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("benchmark", "launch", "tuning", "reports")
VERSIONED_PACKAGES = ("torch", "torchvision", "timm", "deepspeed", "ray", "mlflow", "numpy", "safetensors", "peft")
GIT_VARIABLE = "ADAPTERTUNE_GIT"
"""Carries the driver's commit to workers that run a copy of the sources: `COMMIT` or `COMMIT+dirty`."""


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def package_directory(package: str) -> Path | None:
    """Return the folder a package would be imported from, without importing it; none where it is absent."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


@functools.cache
def sources_sha256() -> str:
    """Return the SHA-256 over the suite's Python sources, by package and relative path."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        directory = package_directory(package)
        for path in sorted(directory.rglob("*.py")) if directory else ():
            relative_name = f"{package}/{path.relative_to(directory).as_posix()}" if directory else package
            digest.update(relative_name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the sources' commit and whether they differ from it; none where they are not a git checkout."""
    carried = os.environ.get(GIT_VARIABLE)
    if carried is not None:
        carried_commit, _, dirty = carried.partition("+")
        return (carried_commit, bool(dirty)) if carried_commit else (None, None)
    source = Path(__file__).resolve()
    directory = source.parent
    is_tracked = _git(directory, "ls-files", "--error-unmatch", source.name) is not None
    commit = _git(directory, "rev-parse", "HEAD") if is_tracked else None
    if commit is None:
        return None, None
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no", ".", "../launch", "../tuning")
    return commit, bool(changes)


def git_variable() -> str:
    """Return the value of `GIT_VARIABLE` that carries this process's git state."""
    commit, dirty = git_state()
    return (commit or "") + ("+dirty" if dirty else "")


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that may change a score or its cost, without importing them."""
    versions = {}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def host_name() -> str:
    """Return this machine's network name."""
    return platform.node()


def user_name() -> str | None:
    """Return the user's name on this machine; none where it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
