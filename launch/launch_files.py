"""Files that start a study somewhere else: on rented machines, Kubernetes, Slurm, a workstation, or one trial alone."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.errors import RequestError, nearest

Kind = Literal["aws", "gcp", "kuberay", "slurm", "machine", "torchrun"]
Device = Literal["cpu", "a100", "h100"]

HEALTH_CHECK_VARIABLES = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""A dead node is declared dead after 5 to 9 s. With Ray's defaults it takes a minute, and trials on it never go on."""


@dataclass(frozen=True)
class Machine:
    """A kind of worker node.

    Attributes:
        name: The provider's name.
        num_cpus: Its virtual CPUs.
        num_gpus: Its GPUs.
        memory_gib: Memory that a pod on it may ask for.
        boot_image: The provider's name of the image that it boots.
    """

    name: str
    num_cpus: int
    num_gpus: int
    memory_gib: int
    boot_image: str = ""


# CPUs, GPUs and memory: docs.aws.amazon.com/ec2/latest/instancetypes, cloud.google.com/compute/docs/machine-resource.
# The boot images hold Docker and, for GPUs, a driver of 580 or later, which CUDA 13 needs.
_AWS_IMAGE = "resolve:ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
_GCP_IMAGES = "projects/deeplearning-platform-release/global/images/family"
_GCP_CPU_IMAGE = f"{_GCP_IMAGES}/common-cpu"
_GCP_GPU_IMAGE = f"{_GCP_IMAGES}/common-cu129-ubuntu-2204-nvidia-580"
_MACHINES: Mapping[str, Mapping[str, Machine]] = {
    "aws": {
        "cpu": Machine("m7i.8xlarge", 32, 0, 96, _AWS_IMAGE),
        "a100": Machine("p4d.24xlarge", 96, 8, 1000, _AWS_IMAGE),
        "h100": Machine("p5.48xlarge", 192, 8, 1800, _AWS_IMAGE),
    },
    "gcp": {
        "cpu": Machine("n2-standard-32", 32, 0, 96, _GCP_CPU_IMAGE),
        "a100": Machine("a2-highgpu-8g", 96, 8, 640, _GCP_GPU_IMAGE),
        "h100": Machine("a3-highgpu-8g", 208, 8, 1700, _GCP_GPU_IMAGE),
    },
    "other": {
        "cpu": Machine("cpu", 16, 0, 48),
        "a100": Machine("a100", 64, 8, 400),
        "h100": Machine("h100", 64, 8, 400),
    },
}
_TITLES: Mapping[Kind, str] = {
    "aws": "Amazon's cloud",
    "gcp": "Google's cloud",
    "kuberay": "Kubernetes",
    "slurm": "Slurm",
    "machine": "this machine",
    "torchrun": "torchrun, one trial",
}
_TEMPLATES: Mapping[Kind, tuple[str, ...]] = {
    "aws": ("aws.yaml",),
    "gcp": ("gcp.yaml",),
    "kuberay": ("kuberay.yaml", "raycluster.yaml"),
    "slurm": ("slurm.sh",),
    "machine": ("machine.sh",),
    "torchrun": ("torchrun.sh",),
}
KINDS = tuple(_TEMPLATES)


@dataclass(frozen=True)
class Need:
    """What a study's trials occupy.

    Attributes:
        num_workers: Of the largest trial.
        cpus_per_worker: Of the most demanding trial.
        gpus_per_worker: 0 or 1.
        apart: Whether each worker of a trial must have a node of its own.
    """

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    apart: bool


@dataclass(frozen=True)
class LaunchFiles:
    """What the templates speak of; `write`'s arguments and what follows from them."""

    kind: Kind
    title: str
    command: str
    study: str
    study_name: str
    study_text: str
    settings: Sequence[str]
    machine: Machine
    min_nodes: int
    max_nodes: int
    num_workers: int
    image: str
    ray_version: str
    health_check_variables: Mapping[str, str]

    @property
    def main_file(self) -> str:
        """The file that is started."""
        return _TEMPLATES[self.kind][0]

    @property
    def cluster_name(self) -> str:
        """The study's name as Kubernetes takes names: small letters, digits, hyphens."""
        kept = "".join(sign if sign.isalnum() else "-" for sign in self.study_name.lower())
        return f"adaptertune-{kept}"[:50].rstrip("-")

    @property
    def health_check(self) -> str:
        """The variables as a shell takes them."""
        return " ".join(f"{name}={value}" for name, value in self.health_check_variables.items())

    @property
    def submit_command(self) -> str:
        """How the study is sent to the cluster."""
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return shlex.join(["adaptertune", "submit", self.study, *settings, "--address", "http://127.0.0.1:8265"])


def check_kind(kind: str) -> Kind:
    """Return the kind of place.

    Raises:
        RequestError: There is none of this name.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise RequestError("--kind", kind, "is none of: " + ", ".join(KINDS), nearest(kind, KINDS))


def choose_machine(kind: Kind, device: Device | None, need: Need) -> Machine:
    """Return the machine for a study's workers.

    Raises:
        RequestError: The machine's devices would stand idle, or a worker does not fit onto it.
    """
    chosen = device or ("h100" if need.gpus_per_worker else "cpu")
    machine = _MACHINES.get(kind, _MACHINES["other"])[chosen]
    if bool(machine.num_gpus) != bool(need.gpus_per_worker):
        rule = f"the study's workers take {need.gpus_per_worker:g} GPUs each, and the machine has {machine.num_gpus}"
        raise RequestError("--device", chosen, rule, "Add --set resources.gpus_per_worker=0 or 1.")
    if workers_per_node(machine, need) == 0:
        rule = f"a worker takes {need.cpus_per_worker:g} CPUs, and {machine.name} has {machine.num_cpus}"
        raise RequestError("resources.cpus_per_worker", need.cpus_per_worker, rule)
    return machine


def workers_per_node(machine: Machine, need: Need) -> int:
    """Return how many of a study's workers a machine holds."""
    by_cpus = int(machine.num_cpus // need.cpus_per_worker)
    return min(by_cpus, int(machine.num_gpus // need.gpus_per_worker)) if need.gpus_per_worker else by_cpus


def nodes_of_one_trial(machine: Machine, need: Need) -> int:
    """Return the fewest nodes on which the largest trial can run."""
    return need.num_workers if need.apart else math.ceil(need.num_workers / workers_per_node(machine, need))


def render(
    kind: Kind,
    *,
    study: str,
    study_name: str,
    study_text: str,
    settings: Sequence[str],
    need: Need,
    device: Device | None,
    num_nodes: int | None,
    image: str,
    command: str,
) -> dict[str, str]:
    """Return the contents of a kind's files, by name.

    Args:
        kind: The place.
        study: A shipped study's name or a file's absolute path.
        study_name: Its own name.
        study_text: Its YAML.
        settings: Replacements, as `--set` takes them.
        need: What its trials occupy.
        device: Of the worker nodes; none for H100 where the study takes GPUs, else for CPUs.
        num_nodes: Most worker nodes; none for those that one trial needs.
        image: The container image with the suite.
        command: The line that asked for the files.

    Raises:
        RequestError: The study does not fit the machines or their number.
    """
    machine = choose_machine(kind, device, need)
    least = nodes_of_one_trial(machine, need)
    if num_nodes is not None and num_nodes < least:
        raise RequestError("--nodes", num_nodes, f"a trial needs {least} of these nodes", f"Give {least} or more.")
    files = LaunchFiles(
        kind=kind,
        title=_TITLES[kind],
        command=command,
        study=study,
        study_name=study_name,
        study_text=study_text.rstrip("\n"),
        settings=tuple(settings),
        machine=machine,
        min_nodes=least,
        max_nodes=num_nodes or least,
        num_workers=need.num_workers,
        image=image,
        ray_version=importlib.metadata.version("ray"),
        health_check_variables=HEALTH_CHECK_VARIABLES,
    )
    return {name: _rendered(name, files) for name in _TEMPLATES[kind]}


def _rendered(name: str, files: LaunchFiles) -> str:
    import jinja2

    folder = importlib.resources.files("launch") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 -- YAML and shell, quoted by the filters below
    )
    # JSON's strings are YAML's.
    environment.filters.update(shell=shlex.quote, yaml=json.dumps, comment=_on_one_line)
    return environment.get_template(f"{name}.j2").render(files=files).rstrip("\n") + "\n"


def _on_one_line(text: str) -> str:
    """Return a text that stays in the comment it is written into: what follows a line's end would be a command."""
    return " ".join(text.splitlines())
