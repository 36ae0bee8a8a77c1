import importlib.util
import marshal
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from benchmark.errors import SourceMismatchError
from launch.staging import Sources, _write_byte_code, check_sources, sources_digest, stage_sources


def test_staged_copy_is_what_python_imports_when_it_comes_first(tmp_path):
    staged = stage_sources(tmp_path / "code")
    program = "import benchmark, launch.staging as s; print(s.imported_sources().sha256, benchmark.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "code", capture_output=True, text=True, check=True
    ).stdout.split()
    assert answer == [staged.sha256, str(tmp_path / "code" / "benchmark" / "__init__.py")]


def test_byte_code_lies_beside_every_copy_is_that_copys_and_is_never_checked_again(tmp_path):
    stage_sources(tmp_path)
    for source in tmp_path.rglob("*.py"):
        byte_code = Path(importlib.util.cache_from_source(str(source))).read_bytes()
        flags, digest = int.from_bytes(byte_code[4:8], "little"), byte_code[8:16]
        assert (byte_code[:4], flags) == (importlib.util.MAGIC_NUMBER, 0b01)
        assert digest == importlib.util.source_hash(source.read_bytes())
    errors = tmp_path / "benchmark" / "errors.py"
    code = marshal.loads(Path(importlib.util.cache_from_source(str(errors))).read_bytes()[16:])
    assert code.co_code == compile(errors.read_bytes(), "errors.py", "exec").co_code


def test_a_source_that_is_edited_while_it_is_staged_gets_no_byte_code(tmp_path, monkeypatch):
    monkeypatch.setattr(SourceFileLoader, "get_code", lambda loader, name: compile("edited = True", name, "exec"))
    original, copy = tmp_path / "original.py", tmp_path / "copy.py"
    original.write_text("edited = True\n", encoding="utf-8")
    copy.write_text("edited = False\n", encoding="utf-8")
    _write_byte_code(original, copy)
    assert not (tmp_path / "__pycache__").exists()


def test_digest_changes_when_one_character_does(tmp_path):
    before = stage_sources(tmp_path).sha256
    with (tmp_path / "benchmark" / "errors.py").open("a") as source:
        source.write("\n")
    assert sources_digest(tmp_path) != before


def test_mismatch_names_both_folders_when_sources_differ():
    with pytest.raises(SourceMismatchError, match=r"/driver.*/worker"):
        check_sources(Sources("1" * 64, "/driver"), Sources("2" * 64, "/worker"))
