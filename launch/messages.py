"""What Ray has to say to a driver, such as that a node is dead: logged, where Ray would print it on stdout."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def logged_messages() -> Iterator[None]:
    """Log Ray's messages while the context lasts: stdout belongs to the command's own document."""
    from ray._private import worker

    printed = worker.print_to_stdstream
    worker.print_to_stdstream = _log
    try:
        yield
    finally:
        worker.print_to_stdstream = printed


def _log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    for line in data["lines"]:
        _logger.warning("Ray: %s", line)
