"""The URL of a study's mirror."""

from __future__ import annotations

import urllib.parse

EXAMPLE = "For example s3://BUCKET/FOLDER or file:///shared/FOLDER."


def check_url(url: str) -> None:
    """Refuse a URL that is none, or that would carry a password into every report.

    Raises:
        ValueError: It is one of these.
    """
    parts = urllib.parse.urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise ValueError(f"{url!r} is no URL of a folder. {EXAMPLE}")
    if "@" in parts.netloc:
        raise ValueError("a URL with a user or password would stand in every report: set the store's own variables")
