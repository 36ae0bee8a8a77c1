import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.garbage import lasting_imports


@pytest.fixture(autouse=True)
def collector_as_before():
    was_enabled = gc.isenabled()
    yield
    gc.unfreeze()
    if was_enabled:
        gc.enable()
    else:
        gc.disable()


@pytest.fixture
def module_name(tmp_path, monkeypatch):
    (tmp_path / "imported_just_now.py").write_text("kept = [[] for _ in range(1000)]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "imported_just_now"
    sys.modules.pop("imported_just_now", None)


def test_what_an_import_made_is_left_out_of_later_collections_and_nothing_is_collected_on_the_way(module_name):
    gc.enable()
    with lasting_imports():
        assert not gc.isenabled()
        kept = __import__(module_name).kept
    assert gc.isenabled()
    assert not any(thing is kept for thing in gc.get_objects())


def test_where_nothing_is_imported_garbage_is_found_as_before():
    gc.unfreeze()
    with lasting_imports():
        kept = [[]]
    assert gc.get_freeze_count() == 0
    assert any(thing is kept for thing in gc.get_objects())


def test_a_collector_that_was_off_stays_off_and_one_that_was_on_is_on_again_after_an_error():
    gc.disable()
    with lasting_imports():
        pass
    assert not gc.isenabled()
    gc.enable()
    with pytest.raises(ModuleNotFoundError), lasting_imports():
        __import__("no_such_package_at_all")
    assert gc.isenabled()


@pytest.mark.parametrize(("modules", "is_left_out"), [("json", True), ("json, triton", False)])
def test_a_process_leaves_nothing_to_look_through_unless_triton_would_call_that_leaked(modules, is_left_out, tmp_path):
    (tmp_path / "triton.py").write_text("", encoding="utf-8")
    program = f"""
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # runs after what is registered later
from benchmark.garbage import lasting_imports
with lasting_imports():
    import {modules}
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (finished.stdout, finished.stderr) == (f"{is_left_out}\n", "")
