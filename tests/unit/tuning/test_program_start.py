"""What the program does around its command: before anything of it is imported, and where it is interrupted then."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from tuning.cli import main


def interrupted(arguments: list[str]) -> int:
    raise KeyboardInterrupt


def test_interruption_while_commands_are_imported_is_told_like_a_later_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tuning.cli.app", types.SimpleNamespace(run=interrupted))
    monkeypatch.setattr(sys, "argv", ["adaptertune", "plan", "demo"])
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code, capsys.readouterr().err) == (130, "Interrupted. The same command goes on from here.\n")


def test_interruption_that_has_passed_through_exec_leaves_with_the_status_of_others() -> None:
    program = (
        "import sys, types; from tuning.cli import main; "
        "sys.modules['tuning.cli.app'] = types.SimpleNamespace(run=lambda given: exec('raise KeyboardInterrupt')); "
        "main()"
    )
    assert subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, check=False).returncode == 130
