"""The generated files against what reads them: Ray's loader and schema, KubeRay's fields, Kubernetes' schema, bash."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from benchmark.request import read_trial
from launch.launch_files import HEALTH_CHECK_VARIABLES, KINDS, Need, nodes_of_one_trial, render
from tuning.cli.app import run

ON_GPUS = ["--set", "resources.gpus_per_worker=1", "--set", "resources.workers_per_trial=16"]
ON_CPUS = ["--set", "resources.gpus_per_worker=0", "--set", "resources.workers_per_trial=1"]
AWKWARD = "question=Who's $HOME?"


def written(folder: Path, kind: str, *options: str) -> Path:
    assert run(["launch-files", "ablation-rank", "--kind", kind, "--output", str(folder), *options]) == 0
    return folder


# Fields and which are required: KubeRay's API types of v1 (github.com/ray-project/kuberay, ray-operator/apis/ray/v1,
# Apache-2.0), as far as the files use them; no package brings the definitions themselves. The pods in them are checked
# with Kubernetes' own schema, which the definitions repeat.
KUBERNETES = "1.34"


class Known(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Group(Known):
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(Group):
    groupName: str
    replicas: int
    minReplicas: int
    maxReplicas: int


class AutoscalerOptions(Known):
    idleTimeoutSeconds: int


class AuthOptions(Known):
    mode: Literal["token"]


class RayClusterSpec(Known):
    authOptions: AuthOptions
    headGroupSpec: Group
    workerGroupSpecs: list[WorkerGroup]
    rayVersion: str
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions


class RayJobSpec(Known):
    entrypoint: str
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    backoffLimit: int
    rayClusterSpec: RayClusterSpec


@pytest.mark.parametrize("provider", ["aws", "gcp"])
@pytest.mark.parametrize(("options", "gpus"), [(ON_CPUS, 0), ([*ON_GPUS, "--nodes", "4", "--device", "a100"], 8)])
def test_ray_accepts_the_cluster_file_when_it_is_prepared_as_ray_up_does(
    provider: str, options: list[str], gpus: int, tmp_path: Path
) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    document = yaml.safe_load((written(tmp_path, provider, *options) / f"{provider}.yaml").read_text())
    prepared = prepare_config(document)
    validate_config(prepared)
    workers = prepared["available_node_types"]["workers"]
    assert workers["resources"].get("GPU", 0) == gpus
    assert (workers["min_workers"], workers["max_workers"]) == ((2, 4) if gpus else (1, 1))
    start = " ".join(prepared["head_start_ray_commands"])
    assert all(f"{name}={value}" in start for name, value in HEALTH_CHECK_VARIABLES.items())
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_rays_schema_refuses_the_cluster_file_when_a_field_is_misspelt(provider: str, tmp_path: Path) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    document = yaml.safe_load((written(tmp_path, provider, *ON_CPUS) / f"{provider}.yaml").read_text())
    prepared = prepare_config(document)
    prepared["max_wrokers"] = prepared.pop("max_workers")
    with pytest.raises(ValidationError, match="max_wrokers"):
        validate_config(prepared)


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_every_node_asks_for_the_users_token_when_started_in_a_cloud(provider: str, tmp_path: Path) -> None:
    document = yaml.safe_load((written(tmp_path, provider, *ON_CPUS) / f"{provider}.yaml").read_text())
    for commands in (document["head_start_ray_commands"], document["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start
    assert "--env RAY_AUTH_MODE=token" in document["docker"]["run_options"]
    assert document["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_manifests_hold_kuberays_fields_when_written(tmp_path: Path) -> None:
    folder = written(tmp_path, "kuberay", *ON_GPUS, "--nodes", "4", "--set", AWKWARD)
    study, job = yaml.safe_load_all((folder / "kuberay.yaml").read_text())
    same_study, cluster = yaml.safe_load_all((folder / "raycluster.yaml").read_text())
    assert (job["apiVersion"], job["kind"], cluster["kind"]) == ("ray.io/v1", "RayJob", "RayCluster")
    spec = RayJobSpec.model_validate(job["spec"])
    assert RayClusterSpec.model_validate(cluster["spec"]) == spec.rayClusterSpec
    (workers,) = spec.rayClusterSpec.workerGroupSpecs
    (container,) = workers.template["spec"]["containers"]
    assert (workers.minReplicas, workers.maxReplicas) == (2, 4)  # 16 workers on machines of 8 GPUs
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {one["name"]: one["value"] for one in container["env"]} == HEALTH_CHECK_VARIABLES
    assert yaml.safe_load(study["data"]["study.yaml"])["name"] == "ablation-rank"
    assert study == same_study
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {spec.entrypoint}"], capture_output=True, text=True)
    assert AWKWARD in words.stdout.splitlines()


@pytest.mark.parametrize("options", [ON_CPUS, [*ON_GPUS, "--nodes", "4"]])
def test_kubernetes_knows_every_field_of_the_pods_when_manifests_are_written(
    options: list[str], tmp_path: Path
) -> None:
    folder = written(tmp_path, "kuberay", *options)
    study, job = yaml.safe_load_all((folder / "kuberay.yaml").read_text())
    kubernetes_validate.validate(study, KUBERNETES, strict=True)
    cluster = RayJobSpec.model_validate(job["spec"]).rayClusterSpec
    for group in (cluster.headGroupSpec, *cluster.workerGroupSpecs):
        pods = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pods"}, "template": group.template}
        kubernetes_validate.validate(pods, KUBERNETES, strict=True)
        group.template["spec"]["containers"][0]["resorces"] = {}
        with pytest.raises(kubernetes_validate.ValidationError, match="resorces"):
            kubernetes_validate.validate(pods, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", ["slurm", "machine", "torchrun"])
def test_bash_parses_the_script_when_a_setting_holds_shell_signs(kind: str, tmp_path: Path) -> None:
    script = written(tmp_path, kind, "--set", AWKWARD) / f"{kind}.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111


INJECTIONS = [
    "question=one\ntouch ran",
    "question=it's; touch ran #",
    "question=$(touch ran)`touch ran`\r\ntouch ran\u2028touch ran",
]


@pytest.mark.parametrize("setting", INJECTIONS)
@pytest.mark.parametrize(("kind", "program"), [("machine", "adaptertune"), ("torchrun", "torchrun"), ("slurm", "srun")])
def test_nothing_but_the_programs_runs_when_a_setting_holds_commands(
    kind: str, program: str, setting: str, tmp_path: Path
) -> None:
    script = written(tmp_path / "files", kind, "--set", setting) / f"{kind}.sh"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("adaptertune", "torchrun", "srun", "scontrol", "hostname"):
        (programs / name).write_text('#!/bin/sh\nfor word in "$0" "$@"; do printf "%s\\0" "$word" >> "$CALLS"; done\n')
        (programs / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(calls), "SLURM_JOB_ID": "1"}
    environment |= {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "node", "HOME": str(tmp_path)}
    subprocess.run(["bash", str(script)], env=environment, cwd=tmp_path, check=True, timeout=30)
    words = calls.read_bytes().decode().split("\0")
    assert str(programs / program) in words
    assert (setting in words) == (kind != "torchrun"), "the whole setting is one word of the command"
    assert list(tmp_path.rglob("ran")) == []
    for file in (tmp_path / "files").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())


@pytest.mark.parametrize("setting", INJECTIONS)
@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_manifests_are_those_of_a_plain_study_when_a_setting_holds_commands(
    kind: str, setting: str, tmp_path: Path
) -> None:
    def structure(folder: Path, *options: str) -> list[Any]:
        files = sorted(written(folder, kind, *options).glob("*.yaml"))
        documents = [one for file in files for one in yaml.safe_load_all(file.read_text())]
        for one in documents:
            one.get("data", {}).pop("study.yaml", None)
            one.get("spec", {}).pop("entrypoint", None)
        return documents

    assert structure(tmp_path / "a", "--set", setting) == structure(tmp_path / "b")


def test_slurm_asks_for_what_the_trials_take_when_they_take_gpus(tmp_path: Path) -> None:
    lines = (written(tmp_path, "slurm", *ON_GPUS) / "slurm.sh").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert {"--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8", "--exclusive", "--requeue"} <= asked


def test_trial_file_is_the_studys_first_trial_when_written_for_torchrun(tmp_path: Path) -> None:
    from tuning.study import load_study

    folder = written(tmp_path, "torchrun")
    spec, plan = read_trial(folder / "trial.yaml")
    first = load_study("ablation-rank").trials[0]
    assert spec.trial_id == first.spec.trial_id
    assert (plan.num_workers, plan.device) == (first.plan.num_workers, first.plan.device)
    assert f"--nproc-per-node {plan.num_workers} " in (folder / "torchrun.sh").read_text()


def test_files_are_named_when_json_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "machine", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [str(tmp_path / "machine.sh")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "slrum"], "Did you mean 'slurm'"),
        (["--kind", "aws", *ON_CPUS, "--device", "h100"], "resources.gpus_per_worker"),
        (["--kind", "aws", *ON_GPUS, "--nodes", "1"], "a trial needs 2 of these nodes"),
        (["--kind", "aws", *ON_CPUS, "--set", "resources.cpus_per_worker=33"], "m7i.8xlarge has 32"),
    ],
)
def test_request_is_refused_when_the_machines_do_not_suit_it(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(["launch-files", "ablation-rank", "--output", str(tmp_path / "out"), *options])
    assert (status, said in " ".join(capsys.readouterr().err.split())) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("workers", "apart", "nodes"), [(8, False, 1), (9, False, 2), (16, False, 2), (3, True, 3)])
def test_nodes_are_as_many_as_a_trial_needs_when_not_given(workers: int, apart: bool, nodes: int) -> None:
    from launch.launch_files import choose_machine

    need = Need(workers, cpus_per_worker=8, gpus_per_worker=1, apart=apart)
    assert nodes_of_one_trial(choose_machine("gcp", None, need), need) == nodes


def test_every_kind_is_rendered_when_the_study_text_holds_templates_signs() -> None:
    need = Need(1, 1, 0, False)
    for kind in KINDS:
        contents = render(
            kind,
            study="/shared/my study.yaml",
            study_name="my.study",
            study_text="name: my.study\nquestion: '{{ files }} {% raw %}'\n",
            settings=[],
            need=need,
            device=None,
            num_nodes=None,
            image="registry/suite:1",
            command="adaptertune launch-files",
        )
        assert all(text.endswith("\n") and not text.endswith("\n\n") for text in contents.values())
