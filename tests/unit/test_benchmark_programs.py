"""The programs that measure are run by hand alone; nothing that moves may break one unseen."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from tests import performance


def test_every_benchmark_program_finds_what_it_imports() -> None:
    names = sorted(module.name for module in pkgutil.iter_modules(performance.__path__, "tests.performance."))
    assert "tests.performance.sweeps" in names
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
