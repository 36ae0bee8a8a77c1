"""Reads tars and unpacks tars and zips without letting a name or a link lead out of the folder."""

from __future__ import annotations

import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from benchmark.errors import MissingError, RequestError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


def is_archive(name: str) -> bool:
    """Say whether a file's name is that of an archive that can be unpacked."""
    return name.endswith(ARCHIVE_SUFFIXES)


def tar_images(path: Path) -> list[tarfile.TarInfo]:
    """Return the regular members of an uncompressed tar, whose bytes lie at `offset_data`.

    Raises:
        MissingError: The tar is not there.
        RequestError: It is compressed, damaged or truncated, or a member's name or kind is refused.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = archive.getmembers()
    except OSError as error:
        raise MissingError(f"{path}: the tar cannot be read: {error.strerror or error}") from error
    except tarfile.TarError as error:
        hint = "Images are read from their place in it: `gunzip` a compressed one, fetch a damaged one again."
        raise RequestError(str(path), None, f"this is no readable uncompressed tar: {error}", hint) from error
    num_bytes = path.stat().st_size
    for member in members:
        refuse_name(path, member.name)
        _refuse_kind(path, member)
        if member.isreg() and member.offset_data + member.size > num_bytes:
            rule = f"the tar is truncated inside the member {member.name!r}"
            raise RequestError(str(path), f"{num_bytes} bytes", rule, "Fetch it again.")
    return [member for member in members if member.isreg()]


def refuse_name(archive: Path, name: str) -> None:
    """Refuse a member whose name leads out of the folder.

    Raises:
        RequestError: The name is absolute or goes up.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or name[1:2] == ":":
        rule = "a member's name must be relative and must not hold '..'"
        raise RequestError(str(archive), name, rule, "The archive is unsafe: do not unpack it; make it anew.")


def _refuse_kind(path: Path, member: tarfile.TarInfo) -> None:
    if member.issparse() or not (member.isreg() or member.isdir()):
        kind = "link" if member.issym() or member.islnk() else "special file"
        rule = f"the member {member.name!r} is a {kind}; images must be regular files"
        raise RequestError(str(path), None, rule, "Make the tar again, with `tar --dereference` for links.")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder.

    Raises:
        RequestError: A member is unsafe, or the archive is damaged.
        MissingError: The disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _archive_errors(archive, folder):
        if archive.name.endswith(".zip"):
            _unpack_zip(archive, folder)
        else:
            with tarfile.open(archive, "r:*") as tar:
                for member in tar:
                    refuse_name(archive, member.name)
                    tar.extract(member, folder, filter="data")


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            refuse_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                rule = f"the member {member.filename!r} is a link"
                raise RequestError(str(archive), None, rule, "The archive is unsafe: make it anew without links.")
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)


@contextmanager
def _archive_errors(archive: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.FilterError as error:
        rule = f"an unsafe member was refused: {error}"
        raise RequestError(str(archive), None, rule, "The archive is unsafe: make it anew.") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError) or error.errno == errno.ENOSPC:
            raise MissingError(f"{folder}: {archive.name} cannot be unpacked: {error.strerror or error}") from error
        raise RequestError(str(archive), None, f"the archive is damaged: {error}", "Fetch it again.") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise RequestError(str(archive), None, f"the archive is damaged: {error}", "Fetch it again.") from error
