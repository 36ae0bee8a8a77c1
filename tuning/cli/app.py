"""The commands, and the one place that turns an error into a message and an exit status."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from rich.logging import RichHandler

from benchmark.errors import AdapterTuneError, RequestError
from launch.interrupts import INTERRUPTED
from tuning.cli import (
    INTERRUPTION,
    cache,
    catalogue,
    certifying,
    checks,
    data,
    explain,
    launching,
    locking,
    plan,
    pretraining,
    results,
    running,
    single,
    submitting,
    trained,
)
from tuning.cli.output import errors

# Some versions of Typer bring a click of their own, whose exceptions are not those of the package `click`.
_CommandLineError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="adaptertune",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"adaptertune-bench {version('adaptertune-bench')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is, and leave."),
    ] = False,
) -> None:
    """Benchmark the adaptation of frozen Vision Transformers: studies of many seeds on Ray, DeepSpeed and MLflow."""


app.command("plan", epilog=plan.EXAMPLE)(plan.plan)
app.command("run", epilog=running.EXAMPLE)(running.run)
app.command("submit", epilog=submitting.EXAMPLE)(submitting.submit)
app.command("launch-files", epilog=launching.EXAMPLE)(launching.launch_files)
app.command("status", epilog=results.STATUS_EXAMPLE)(results.status)
app.command("report", epilog=results.REPORT_EXAMPLE)(results.report)
app.command("lock", epilog=locking.LOCK_EXAMPLE)(locking.lock)
app.command("confirm", epilog=locking.CONFIRM_EXAMPLE)(locking.confirm)
app.command("train", epilog=single.EXAMPLE)(single.train)
app.command("list", epilog=catalogue.EXAMPLE)(catalogue.list_members)
app.command("explain", epilog=explain.EXAMPLE)(explain.explain)
app.command("certify", epilog=certifying.EXAMPLE)(certifying.certify)
app.add_typer(data.app, name="data")
app.command("export", epilog=trained.EXPORT_EXAMPLE)(trained.export)
app.command("predict", epilog=trained.PREDICT_EXAMPLE)(trained.predict)
app.command("pretrain", epilog=pretraining.EXAMPLE)(pretraining.pretrain)
app.command("ui", epilog=results.UI_EXAMPLE)(results.ui)
app.add_typer(cache.cache, name="cache")
app.command("doctor", epilog=checks.EXAMPLE)(checks.doctor)


def run(arguments: list[str]) -> int:
    """Run one command; return the exit status: 0 done, 1 some failed, 2 request wrong, 3 missing, 130 interrupted."""
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=errors, show_path=False)]
    )
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except AdapterTuneError as error:
        _show(error)
        return error.exit_status
    except typer.Exit as leaving:
        return int(leaving.exit_code)
    except _CommandLineError as error:
        error.show(file=sys.stderr)
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        errors.print(INTERRUPTION, highlight=False)
        return INTERRUPTED


def _show(error: AdapterTuneError) -> None:
    problems = error.problems if isinstance(error, RequestError) else (error,)
    for problem in problems:
        errors.print(f"[bold red]error[/]: {_escaped(problem)}", highlight=False, soft_wrap=True)


def _escaped(problem: object) -> str:
    from rich.markup import escape

    return escape(str(problem))
