"""Builds the wheel, and installs it into an empty environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BUILT_FROM = ["pyproject.toml", "README.md", "LICENSE", "NOTICE", "benchmark", "launch", "reports", "tuning", "tests"]
BUILD = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"


def build_wheel(folder: Path) -> Path:
    """Return a wheel built from a copy in an empty folder, so that nothing is left in the repository."""
    for name in BUILT_FROM:
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=folder, capture_output=True, check=True)
    (wheel,) = folder.glob("adaptertune_bench-*.whl")
    return wheel


def install_wheel(wheel: Path, environment: Path) -> Path:
    """Install a wheel, and nothing else, into a new environment; return the folder of its programs.

    What the suite depends on is found where this process finds it. A folder that a `.pth` file names is searched, but
    the `.pth` files in it are not followed, so that no editable install of the suite comes with them.
    """
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    programs = environment / "bin"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([str(programs / "python"), *install], check=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    dependencies = [path for path in sys.path if path.endswith("-packages")]
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return programs
