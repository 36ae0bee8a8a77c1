"""Finds the members of a package that holds one file a member: the file's name is the public name.

An installed package adds members by entry points, whose groups are `adaptertune.methods`, `adaptertune.backbones` and
`adaptertune.datasets`: the entry's name is the public name, its value a module that holds what a member file holds.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from benchmark.errors import RequestError, nearest

NOT_MEMBERS = {"contract"}


@functools.cache
def member_names(package: str) -> tuple[str, ...]:
    """Return the sorted names of a package's members, plugins included, without importing them.

    Raises:
        RequestError: A plugin takes a name that is taken.
    """
    return tuple(sorted({*_built_in(package), *_plugins(package)}))


def member(package: str, name: str, where: str) -> ModuleType:
    """Import the member `name`.

    Args:
        package: Dotted name, such as `benchmark.methods`.
        name: Public name of the member.
        where: Path of the field that holds the name, for the error.

    Raises:
        RequestError: There is no such member, and the nearest names are given; or its plugin cannot be imported.
    """
    names = member_names(package)
    if name not in names:
        raise RequestError(where, name, f"there is no such name in {package.rpartition('.')[2]}", nearest(name, names))
    plugin = _plugins(package).get(name)
    return importlib.import_module(f"{package}.{name}") if plugin is None else load_plugin(plugin)


def package_of(plugin: EntryPoint) -> str:
    """Return the installed package that a plugin comes from, with its version."""
    return f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist is not None else plugin.module


def accepted_plugins(built_in: Collection[str], found: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    """Return plugins by name.

    Args:
        built_in: Names that plugins may not take.
        found: The entry points of one group.

    Raises:
        RequestError: A name is built in, or two packages give it.
    """
    accepted: dict[str, EntryPoint] = {}
    for plugin in found:
        where = f"plugin of the package {package_of(plugin)}"
        earlier = accepted.get(plugin.name)
        if plugin.name in built_in:
            raise RequestError(where, plugin.name, "this name is built in", "Rename its entry point, or uninstall it.")
        if earlier is not None and earlier.value != plugin.value:
            rule = f"this name is also given by the package {package_of(earlier)}"
            raise RequestError(where, plugin.name, rule, "Uninstall one of the two.")
        accepted[plugin.name] = plugin
    return accepted


def load_plugin(plugin: EntryPoint) -> ModuleType:
    """Import a plugin's module.

    Raises:
        RequestError: It cannot be imported, or is no module.
    """
    where = f"plugin of the package {package_of(plugin)}"
    try:
        module = plugin.load()
    except Exception as error:  # whatever a foreign module raises, the user must learn whose it is
        rule = f"it cannot be imported: {type(error).__name__}: {error}"
        raise RequestError(where, plugin.value, rule, "Mend it or uninstall it.") from error
    if not isinstance(module, ModuleType):
        raise RequestError(
            where, plugin.value, "an entry point names a module, without a colon", "See docs/plugins.md."
        )
    return module


@functools.cache
def _built_in(package: str) -> frozenset[str]:
    paths = importlib.import_module(package).__path__
    names = (module.name for module in pkgutil.iter_modules(paths) if not module.ispkg)
    return frozenset(name for name in names if name not in NOT_MEMBERS)


@functools.cache
def _plugins(package: str) -> Mapping[str, EntryPoint]:
    group = f"adaptertune.{package.rpartition('.')[2]}"
    return accepted_plugins(_built_in(package), entry_points(group=group))
