"""The sources that run on the workers: staged by the suite itself, and checked.

Ray puts the driver's working folder first on every worker's import path. A user's own `benchmark/` or `launch.py` there
would replace the suite's packages on the workers only. So the workers get a folder that holds nothing but copies of the
suite's packages, and every rank returns the digest of the sources that it really imports.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

from benchmark.errors import SourceMismatchError

PACKAGES = ("benchmark", "launch", "reports", "tuning")


@dataclass(frozen=True)
class Sources:
    """The suite's sources as one process imports them.

    Attributes:
        sha256: Digest over the packages' `.py` files, names and contents.
        folder: Where the `benchmark` package lies.
    """

    sha256: str
    folder: str


def imported_sources() -> Sources:
    """Return the digest and the place of the sources that this process imports."""
    return Sources(sources_digest(), str(_package_folder("benchmark").parent))


def sources_digest(folder: Path | None = None) -> str:
    """Return the SHA-256 over the `.py` files of the four packages, names and contents.

    Args:
        folder: Where the packages lie; none for those that this process imports.
    """
    digest = hashlib.sha256()
    for name, path in _python_files(folder):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def check_sources(driver: Sources, worker: Sources) -> None:
    """Refuse a worker that runs other sources than the driver.

    Raises:
        SourceMismatchError: The digests differ; the message names both folders.
    """
    if driver.sha256 != worker.sha256:
        raise SourceMismatchError(
            f"A worker runs other sources than the driver: the driver's are in {driver.folder} ({driver.sha256[:12]}), "
            f"the worker's in {worker.folder} ({worker.sha256[:12]}). Clear PYTHONPATH on the worker, or install the "
            "same version on every node."
        )


def stage_sources(folder: Path) -> Sources:
    """Copy the four packages into `folder`, compiled, and return what was copied."""
    copy_sources(folder)
    return compile_sources(folder)


def copy_sources(folder: Path) -> None:
    """Copy the four packages into `folder`: what the workers must run, since the originals may be edited meanwhile."""
    for package in PACKAGES:
        shutil.copytree(_package_folder(package), folder / package, ignore=shutil.ignore_patterns("__pycache__"))


def compile_sources(folder: Path) -> Sources:
    """Put byte code beside the copies of `copy_sources`, and return what was copied.

    It is of the unchecked kind: Ray's archive does not keep modification times, so the usual kind would be compiled
    again by every worker. A process may import from the folder meanwhile: it finds a file's byte code whole, or none.
    """
    for name, path in _python_files(None):
        _write_byte_code(path, folder / name)
    return Sources(sources_digest(folder), str(folder))


def _write_byte_code(original: Path, copy: Path) -> None:
    """Write the byte code beside a copy, taken from the original's where that is of the same source (PEP 552)."""
    source = copy.read_bytes()
    code = SourceFileLoader(copy.stem, str(original)).get_code(copy.stem)
    if source != original.read_bytes():  # edited meanwhile, so it may be the byte code of another source
        return
    is_unchecked = (1).to_bytes(4, "little")
    byte_code = Path(importlib.util.cache_from_source(str(copy)))
    byte_code.parent.mkdir(exist_ok=True)
    part = byte_code.with_suffix(".part")
    part.write_bytes(
        importlib.util.MAGIC_NUMBER + is_unchecked + importlib.util.source_hash(source) + marshal.dumps(code)
    )
    part.replace(byte_code)


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceMismatchError(f"The package {package!r} found here is not the suite's: {spec and spec.origin}.")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _python_files(parent: Path | None) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        folder = parent / package if parent else _package_folder(package)
        for path in sorted(folder.rglob("*.py")):
            yield f"{package}/{path.relative_to(folder).as_posix()}", path
