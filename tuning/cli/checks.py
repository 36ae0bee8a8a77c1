"""`adaptertune doctor`: checks this machine, or a cluster, before a study is started on it."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cache_folder import cache_root
from benchmark.datasets.storage.places import data_root
from benchmark.folders import existing_parent
from tuning.cli.check import LEAST_FREE_BYTES, LEAST_OPEN_FILES, Check
from tuning.cli.output import DEFAULT_OUTPUT, AsJson, OutputDirectory, TrackingUri, console, print_json

EXAMPLE = "Example: adaptertune doctor   (on a cluster's node: adaptertune doctor --address auto)"

NEEDED_PACKAGES = ("torch", "torchvision", "timm", "deepspeed", "ray", "mlflow", "pydantic")
LEAST_MEMORY_BYTES = 6 * 10**9
MISSING = 3

ClusterAddress = Annotated[
    str | None, typer.Option(metavar="auto|HOST:PORT", help="Also check the nodes of this Ray cluster.")
]


StudyOption = Annotated[
    str | None, typer.Option(metavar="STUDY", help="Also check that this study's images and weights are here.")
]


def doctor(
    address: ClusterAddress = None,
    study: StudyOption = None,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Check this machine: packages, devices, memory, disk, process group, tracking; or a cluster's nodes too."""
    from launch.gpus import by_driver_and_torch
    from tuning.cli.cluster_checks import cluster_checks
    from tuning.cli.gpu_checks import gpu_checks

    examinations: list[Callable[[], Check]] = [
        _python,
        *(lambda package=package: _package(package) for package in NEEDED_PACKAGES),
        _devices,
        _memory,
        lambda: _disk("disk for results", existing_parent(output)),
        lambda: _disk("disk for data", existing_parent(data_root())),
        lambda: _disk("disk for caches", existing_parent(cache_root())),
        lambda: _disk("shared memory", Path("/dev/shm")),  # noqa: S108 -- Ray's object store lies there
        _open_files,
        _process_group,
        _all_reduce,
        lambda: tracking_check(tracking_uri, output),
        *([lambda: _files_of(study)] if study else []),
    ]
    gpus = gpu_checks(by_driver_and_torch())
    checks = [*_examined(examinations), *gpus, *(cluster_checks(address, study) if address else [])]
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            verdict = "[green]ok  [/]" if check.ok else "[red]MEND[/]"
            advice = "" if check.ok else f" → {check.advice}"
            console.print(f"{verdict} {check.name}: {check.found}{advice}", soft_wrap=True)
    return 0 if all(check.ok for check in checks) else MISSING


def _examined(examinations: list[Callable[[], Check]]) -> Iterator[Check]:
    for examine in examinations:
        yield examine()


def _python() -> Check:
    found = sys.version.split()[0]
    return Check("Python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", "run make install")


def _devices() -> Check:
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = ", ".join(torch.cuda.get_device_name(index) for index in range(num_gpus))
    found = f"{len(os.sched_getaffinity(0))} CPUs, " + (gpus or "no GPU: trials compute on the CPU")
    return Check("devices", True, found)


def _memory() -> Check:
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{available / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
    return Check("memory", total >= LEAST_MEMORY_BYTES, found, "the demo takes up to 6 GB; use a larger machine")


def _disk(name: str, path: Path) -> Check:
    free = shutil.disk_usage(path).free
    advice = f"free at least {LEAST_FREE_BYTES / 1e9:.0f} GB at {path}"
    return Check(name, free >= LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free at {path}", advice)


def _open_files() -> Check:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Check("open files", limit >= LEAST_OPEN_FILES, f"limit {limit}", f"raise it: ulimit -n {LEAST_OPEN_FILES}")


def _process_group() -> Check:
    """Join a group of one and reduce over it, as every trial does."""
    import torch
    import torch.distributed

    from benchmark.training.process_group import join, leave

    try:
        join(0, 1)
        value = torch.ones(1)
        torch.distributed.all_reduce(value)
        leave()
    except (RuntimeError, OSError) as error:
        return Check("process group", False, str(error), "look at the network interfaces and GLOO_SOCKET_IFNAME")
    return Check("process group", True, "gloo, adopted by DeepSpeed")


def _all_reduce() -> Check:
    """Sum arrays between two processes: on two GPUs by NCCL where they are, else by gloo."""
    import torch

    from launch.exchange import measure_here
    from tuning.cli.cluster_checks import all_reduce_check

    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= 2
    name = f"all-reduce of two ranks, {'NCCL' if on_gpus else 'gloo'}"
    try:
        return all_reduce_check(name, measure_here("cuda" if on_gpus else "cpu"))
    except (RuntimeError, OSError) as error:
        return Check(name, False, str(error), "look at the network interfaces, NCCL_DEBUG=INFO, and a firewall")


def tracking_check(tracking_uri: str | None, output: Path) -> Check:
    """Reach the server, or look at the database; the next run makes or upgrades that, so nothing is written here."""
    from benchmark.errors import AdapterTuneError
    from benchmark.tracking import database_path, server_version, without_password

    try:
        path = database_path(tracking_uri) if tracking_uri else output / "mlflow.db"
        if path is not None:
            return _database(path)
        assert tracking_uri is not None
        version = server_version(tracking_uri)
    except AdapterTuneError as error:
        return Check("tracking", False, str(error), "start the server, or mend the address")
    found = f"{without_password(tracking_uri)}, MLflow {version}"
    installed = importlib.metadata.version("mlflow")
    is_alike = version.partition(".")[0] == installed.partition(".")[0]
    return Check("tracking", is_alike, found, f"this machine has {installed}: the tables of both must be alike")


def _database(path: Path) -> Check:
    from benchmark.tracking import has_other_tables

    if path.exists() and has_other_tables(f"sqlite:///{path.resolve()}"):
        found = f"sqlite in {path.parent} has the tables of another MLflow"
        return Check("tracking", False, found, "the next run upgrades it and keeps a copy; or install that MLflow")
    writable = os.access(existing_parent(path), os.W_OK)
    return Check("tracking", writable, f"sqlite in {path.parent}", f"make {path.parent} writable")


def _files_of(study: str) -> Check:
    """Say whether this machine has what a study's trials read."""
    from benchmark.errors import AdapterTuneError
    from benchmark.presence import missing_files
    from tuning.study import load_study

    name = f"images and weights of {study}"
    try:
        missing = missing_files([trial.spec for trial in load_study(study).trials])
    except AdapterTuneError as error:
        return Check(name, False, "the study cannot be planned here", str(error))
    return Check(name, not missing, f"{len(missing)} missing" if missing else "here", "; ".join(missing))
