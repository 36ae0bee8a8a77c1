"""Guards what the wheel holds: exactly the four packages, with their data, and no tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUILT_FROM = ["pyproject.toml", "README.md", "LICENSE", "NOTICE", "benchmark", "launch", "reports", "tuning", "tests"]
BUILD = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"

DATA = [
    "benchmark/datasets/data/digits.npz",
    "benchmark/backbones/weights/vit_nano.safetensors",
    "benchmark/pretraining/recipes/vit_nano.yaml",
    "launch/templates/slurm.sh.j2",
    "reports/templates/index.html.j2",
    "tuning/studies/demo.yaml",
    "tuning/studies/study.schema.json",
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the files of a wheel built from a copy, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=folder, capture_output=True, check=True)
    (wheel,) = folder.glob("adaptertune_bench-*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_wheel_holds_exactly_the_four_packages(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"benchmark", "launch", "reports", "tuning"}
    (metadata,) = tops - packages
    assert f"{metadata}/top_level.txt" in names


def test_wheel_holds_the_packages_data(names: list[str]) -> None:
    assert [name for name in DATA if name not in names] == []
    for folder in ("launch/templates", "reports/templates", "tuning/studies", "benchmark/methods"):
        here = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / folder).glob("*.*")}
        assert here and here <= set(names)
