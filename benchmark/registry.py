"""Finds the members of a package that holds one file a member: the file's name is the public name."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from benchmark.errors import RequestError, nearest

NOT_MEMBERS = {"contract"}


@functools.cache
def member_names(package: str) -> tuple[str, ...]:
    """Return the sorted names of a package's member files, without importing them."""
    paths = importlib.import_module(package).__path__
    names = (module.name for module in pkgutil.iter_modules(paths) if not module.ispkg)
    return tuple(sorted(name for name in names if name not in NOT_MEMBERS))


def member(package: str, name: str, where: str) -> ModuleType:
    """Import the member file `name`.

    Args:
        package: Dotted name, such as `benchmark.methods`.
        name: Public name of the member.
        where: Path of the field that holds the name, for the error.

    Raises:
        RequestError: There is no such member; the nearest names are given.
    """
    names = member_names(package)
    if name not in names:
        raise RequestError(where, name, f"there is no such name in {package.rpartition('.')[2]}", nearest(name, names))
    return importlib.import_module(f"{package}.{name}")
