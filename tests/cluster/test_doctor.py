"""The doctor on a real head, on a healthy machine and on a broken one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cluster.doctor import examined
from tests.cluster.hosts import GCS_PORT, linked_hosts, why_not_here
from tests.cluster.ray_head import MISSING_FOR_THE_DASHBOARD, ray_head
from tests.cluster.study_command import write_study
from tests.docs.shapes import draw

pytestmark = pytest.mark.slow


@pytest.mark.skipif(bool(MISSING_FOR_THE_DASHBOARD), reason=f"ray[default] is needed: {MISSING_FOR_THE_DASHBOARD}")
def test_cluster_is_examined_when_its_address_is_given(tmp_path: Path) -> None:
    with ray_head() as head:
        _, checks = examined(tmp_path, "--address", head.gcs, "--study", "demo")
    assert checks["cluster"]["found"] == "1 nodes, 2 CPUs, 0 GPUs"
    assert checks["versions on all nodes"]["ok"] and checks["clocks"]["ok"]
    assert "MB/s" in checks["all-reduce between nodes"]["found"]
    assert checks["images and weights of demo on all nodes"]["ok"]
    # Ray's own settings: a head that was started without the advised ones.
    assert not checks["health check"]["ok"]


@pytest.mark.skipif(bool(MISSING_FOR_THE_DASHBOARD), reason=f"ray[default] is needed: {MISSING_FOR_THE_DASHBOARD}")
def test_sum_between_gpus_is_broken_when_the_cluster_has_gpus_that_torch_cannot_use(tmp_path: Path) -> None:
    with ray_head(num_gpus=2) as head:
        status, checks = examined(tmp_path, "--address", head.gcs, CUDA_VISIBLE_DEVICES="")
    assert (status, checks["all-reduce between GPUs, NCCL"]["ok"]) == (3, False)
    assert "NCCL_DEBUG" in checks["all-reduce between GPUs, NCCL"]["advice"]
    assert checks["all-reduce between nodes"]["ok"], "the nodes themselves do reach each other"


NOT_HERE = why_not_here()
ON_ALL = ("versions", "open files", "shared memory", "disk", "disk for caches", "GPUs")


@pytest.mark.skipif(NOT_HERE is not None, reason=NOT_HERE or "")
def test_host_is_named_when_it_lacks_the_images_that_the_other_has(tmp_path: Path) -> None:
    with linked_hosts(2) as (first, second):
        first.start_ray(num_cpus=1)
        second.start_ray(num_cpus=1)
        draw(first.folder / "images")  # the second host has a folder of its own under this path
        study = write_study(tmp_path, "mine", ["head_only"], [0], dataset=f"image_folder:{first.folder / 'images'}")
        options = ["--address", f"{first.address}:{GCS_PORT}", "--study", str(study), "--json"]
        process = first.python("-m", "tuning", "doctor", "--output", str(first.folder / "out"), *options)
        text, messages = process.communicate(timeout=200)
    checks = {check["name"]: check for check in json.loads(text)["checks"]}
    assert checks["cluster"]["found"] == "2 nodes, 2 CPUs, 0 GPUs", messages
    lacking = checks[f"images and weights of {study} on all nodes"]
    assert (process.returncode, lacking["ok"], lacking["found"]) == (3, False, f"missing on {second.address}")
    assert all(checks[f"{name} on all nodes"]["ok"] for name in ON_ALL)
    assert checks["clocks"]["ok"] and checks["health check"]["ok"]
    assert "64 MiB at" in checks["all-reduce between nodes"]["found"]


def test_process_group_is_broken_when_its_interface_is_not_there(tmp_path: Path) -> None:
    status, checks = examined(tmp_path, GLOO_SOCKET_IFNAME="absent0")
    assert status == 3
    for name in ("process group", "all-reduce of two ranks, gloo"):
        assert not checks[name]["ok"] and "interface" in checks[name]["advice"]


def test_advice_is_given_when_the_machine_is_broken(tmp_path: Path) -> None:
    options = ["--address", "127.0.0.1:1", "--tracking-uri", "http://127.0.0.1:1"]
    status, checks = examined(tmp_path, *options, limit="ulimit -n 512")
    broken = {name for name, check in checks.items() if not check["ok"]}
    assert status == 3
    assert {"open files", "tracking", "cluster"} <= broken
    assert all(checks[name]["advice"] for name in broken)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="a folder system of its own needs root")
def test_disk_is_named_when_the_output_folder_is_full(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    status, checks = examined(tmp_path, limit="mount -t tmpfs -o size=1m none out", within=("unshare", "--mount"))
    assert (status, checks["disk for results"]["ok"]) == (3, False)
    assert checks["disk for results"]["found"].startswith("0.0 GB") and checks["disk for results"]["advice"]
