"""Guards that the versions which are tested are those which the package promises."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_floors_are_the_lowest_versions_of_the_ranges():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    ranges = [*project["dependencies"], *optional["hf"], *optional["peft"]]
    promised = {name_of(line): line.partition(">=")[2] for line in ranges}
    assert {name: padded(version) for name, version in promised.items()} == pins("floors.txt")


def test_every_direct_dependency_is_pinned_for_the_installation():
    assert set(pins("floors.txt")) <= set(pins("constraints.txt"))


def pins(file_name: str) -> dict[str, str]:
    lines = (REPOSITORY / file_name).read_text(encoding="utf-8").splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line]
    return {name_of(name): version for name, _, version in pinned}


def name_of(requirement: str) -> str:
    return re.split(r"[\[>=;]", requirement)[0].strip().lower()


def padded(version: str) -> str:
    return ".".join([*version.split("."), "0", "0"][:3])
