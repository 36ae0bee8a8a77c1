import gc
import sys

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
