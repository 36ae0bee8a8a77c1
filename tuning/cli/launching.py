"""`adaptertune launch-files`: what a study needs to run on a cloud, Kubernetes, Slurm, or without Ray."""

from __future__ import annotations

import importlib.metadata
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from launch.launch_files import KINDS, Need, check_kind, render
from tuning.cli.output import AsJson, Settings, StudyArgument, console, print_json
from tuning.scheduled_trial import ScheduledTrial
from tuning.study import Study, first_request, load_study, study_file

EXAMPLE = "Example: adaptertune launch-files demo --kind slurm --nodes 2"

DEFAULT_IMAGE = "adaptertune-bench:" + importlib.metadata.version("adaptertune-bench")

KindOption = Annotated[str, typer.Option(metavar="|".join(KINDS), help="Where the study is to run.")]
DeviceOption = Annotated[
    Literal["cpu", "a100", "h100"] | None,
    typer.Option(help="Of the worker nodes. Default: h100 where the study's workers take GPUs, else cpu."),
]
Nodes = Annotated[int | None, typer.Option(min=1, help="Most worker nodes. Default: as many as one trial needs.")]
Image = Annotated[str, typer.Option(help="The container image with the suite, made from launch/Containerfile.")]
FilesDirectory = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Where the files go. Default: ./STUDY-KIND")
]


def launch_files(
    study: StudyArgument,
    kind: KindOption,
    settings: Settings = None,
    device: DeviceOption = None,
    nodes: Nodes = None,
    image: Image = DEFAULT_IMAGE,
    output: FilesDirectory = None,
    as_json: AsJson = False,
) -> int:
    """Write the files that start a study on a cloud, Kubernetes, Slurm, one machine, or one trial by torchrun."""
    place = check_kind(kind)
    loaded = load_study(study, settings or [])
    path = study_file(study)
    contents = render(
        place,
        study=str(path.absolute()) if Path(study).is_file() else study,
        study_name=loaded.spec.name,
        study_text=path.read_text(encoding="utf-8"),
        settings=settings or [],
        need=_need(loaded.trials[:1] if place == "torchrun" else loaded.trials),
        device=device,
        num_nodes=nodes,
        image=image,
        command=_command(study, place, settings or []),
    )
    if place == "torchrun":
        contents["trial.yaml"] = yaml.safe_dump(_first_trial(loaded), sort_keys=False)
    folder = output or Path(f"{loaded.spec.name}-{place}")
    written = [str(_write(folder / name, text)) for name, text in contents.items()]
    if as_json:
        print_json({"study": loaded.spec.name, "kind": place, "files": written})
    else:
        console.print(f"Each file begins with how it is used: {', '.join(written)}", soft_wrap=True)
    return 0


def _need(trials: Sequence[ScheduledTrial]) -> Need:
    return Need(
        num_workers=max(trial.plan.num_workers for trial in trials),
        cpus_per_worker=max(trial.resources.cpus_per_worker for trial in trials),
        gpus_per_worker=max(trial.resources.gpus_per_worker for trial in trials),
        apart=any(trial.resources.placement_strategy == "STRICT_SPREAD" for trial in trials),
    )


def _first_trial(study: Study) -> dict[str, Any]:
    plan = study.trials[0].plan
    launch = {
        "num_workers": plan.num_workers,
        "accumulation_steps": plan.accumulation_steps,
        "device": plan.device,
        "threads_per_worker": plan.threads_per_worker,
    }
    return {**first_request(study.spec), "seed": study.spec.seed[0], "launch": launch}


def _command(study: str, kind: str, settings: list[str]) -> str:
    words = [word for setting in settings for word in ("--set", setting)]
    return shlex.join(["adaptertune", "launch-files", study, "--kind", kind, *words])


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if path.suffix == ".sh":
        path.chmod(0o755)
    return path
