"""Guards what the wheel holds: exactly the four packages, with their data, and no tests."""

from __future__ import annotations

import email
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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel, open."""
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.fixture
def names(wheel: zipfile.ZipFile) -> list[str]:
    """Return the files of the wheel."""
    return wheel.namelist()


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


def test_licence_is_named_by_its_spdx_expression_and_its_texts_are_there(wheel: zipfile.ZipFile) -> None:
    (place,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(place))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    for name in ("LICENSE", "NOTICE"):
        inside = wheel.read(place.replace("METADATA", f"licenses/{name}"))
        assert inside == (REPOSITORY / name).read_bytes()
