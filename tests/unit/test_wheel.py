"""Guards what the wheel holds: exactly the four packages, with their data, and no tests."""

from __future__ import annotations

import zipfile

import pytest

from tests.wheel import REPOSITORY, build_wheel

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
    """Return the files of the wheel."""
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel"))).namelist()


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
