import subprocess
import sys

import pytest

from benchmark.errors import SourceMismatchError
from launch.staging import Sources, check_sources, sources_digest, stage_sources


def test_staged_copy_is_what_python_imports_when_it_comes_first(tmp_path):
    staged = stage_sources(tmp_path / "code")
    program = "import benchmark, launch.staging as s; print(s.imported_sources().sha256, benchmark.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "code", capture_output=True, text=True, check=True
    ).stdout.split()
    assert answer == [staged.sha256, str(tmp_path / "code" / "benchmark" / "__init__.py")]


def test_digest_changes_when_one_character_does(tmp_path):
    before = stage_sources(tmp_path).sha256
    with (tmp_path / "benchmark" / "errors.py").open("a") as source:
        source.write("\n")
    assert sources_digest(tmp_path) != before


def test_mismatch_names_both_folders_when_sources_differ():
    with pytest.raises(SourceMismatchError, match=r"/driver.*/worker"):
        check_sources(Sources("1" * 64, "/driver"), Sources("2" * 64, "/worker"))
