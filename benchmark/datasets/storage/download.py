"""Fetches one file over HTTP: with progress, resumed where it stopped, never taken for whole before it is compared."""

from __future__ import annotations

import errno
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from benchmark.datasets.storage.checksums import checksum_of
from benchmark.errors import MissingError, RequestError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are here, and the bytes of the whole file where they are known."""


def download(url: str, target: Path, checksum: str | None, progress: Progress | None = None) -> str:
    """Fetch a file; an interrupted download goes on from its `.part` file.

    Args:
        url: An http or https address.
        target: Where the whole, compared file comes to lie.
        checksum: `md5:HEX` or `sha256:HEX` to compare with; none where it is not known.
        progress: Told of every megabyte.

    Returns:
        The file's checksum, in the algorithm of `checksum`, SHA-256 without one.

    Raises:
        MissingError: The server cannot be reached, breaks off or refuses, or the disk is full; the `.part` file stays.
        RequestError: The whole file has another checksum; it is kept as `.corrupt`.
    """
    if not url.startswith(("http://", "https://")):
        raise RequestError("url", url, "only http and https addresses are fetched")
    part = target.with_name(f"{target.name}.part")
    _fetch(url, part, progress or _silent)
    found = checksum_of(part, checksum.partition(":")[0] if checksum else "sha256")
    if checksum is not None and found != checksum:
        corrupt = target.with_name(f"{target.name}.corrupt")
        part.replace(corrupt)
        rule = f"the checksum of {url} must be {checksum}; the file is kept as {corrupt.name}"
        hint = "Run the command again; if it happens again, the publisher's file changed."
        raise RequestError(str(target), found, rule, hint)
    part.replace(target)
    return found


def _fetch(url: str, part: Path, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            resumes = have > 0 and response.status == http.HTTPStatus.PARTIAL_CONTENT
            _write(response, part, have if resumes else 0, progress)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # all of it is here already; the checksum decides
        raise MissingError(
            f"{url}: the server answers {error.code} {error.reason}; try later or fetch it by hand"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        here = part.stat().st_size if part.exists() else 0
        kept = f"; {here} bytes are kept in {part}, run the command again to go on" if here else ""
        raise MissingError(f"{url}: the download failed: {reason}{kept}") from error


def _write(response: http.client.HTTPResponse, part: Path, have: int, progress: Progress) -> None:
    """Append the answer's bytes to the part file, or begin it anew."""
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    name = part.name.removesuffix(".part")
    progress(name, have, total)
    with _opened(part, have) as file:
        while chunk := response.read(CHUNK_BYTES):
            _put(file, chunk, part)
            have += len(chunk)
            progress(name, have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _opened(part: Path, have: int) -> BinaryIO:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        return part.open("ab" if have else "wb", buffering=0)
    except OSError as error:
        raise MissingError(f"{part}: cannot be written: {error.strerror or error}") from error


def _put(file: BinaryIO, chunk: bytes, part: Path) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written: {error.strerror or error}"
        message = f"{part}: {reason}; what is there is kept: free some space and run the command again to go on"
        raise MissingError(message) from error


def _silent(name: str, here: int, total: int | None) -> None:
    """Show no progress."""
