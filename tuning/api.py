"""The public Python API: what a notebook needs instead of the command line.

`run_study` and `load_results` for studies; `run_trial` and `adapt`, which need no Ray, come from `benchmark.api`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmark.api import adapt, run_trial
from benchmark.errors import RequestError
from benchmark.result import EpochRecord
from benchmark.tracking import StudyRecord, default_tracking_uri, read_curves, read_predictions, read_study
from launch.cluster import check_address
from reports.analysis import analyse
from reports.record_tables import trial_rows
from reports.summary import summary_of
from tuning import run_study as running
from tuning.fairness import budget_warnings
from tuning.files import output_folder
from tuning.run_study import RunSettings, StudyOutcome, report_readers
from tuning.study import Study, load_study, study_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StudyOutcome", "StudyResults", "adapt", "load_results", "run_study", "run_trial"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyResults:
    """A study's results, as tracking has them.

    Attributes:
        record: The study as it is stored, its plan, and every trial that has ended.
        summary: What `summary.json` of the report holds: conditions, comparisons, claims; accuracies are fractions in
            [0, 1], what is absent is none with a reason.
        trials: A row for every trial, by the columns of `trials.csv`; `pandas.DataFrame(results.trials)` is a table.
    """

    record: StudyRecord
    summary: dict[str, Any]
    trials: list[dict[str, Any]]
    _tracking_uri: str

    def curves(self, run_ids: Sequence[str] | None = None) -> dict[str, list[EpochRecord]]:
        """Return the epochs of trials by run id; none: of all that have ended."""
        return read_curves(self._tracking_uri, self._all_runs() if run_ids is None else run_ids)

    def predictions(self, run_id: str) -> dict[str, NDArray[Any]]:
        """Return a trial's test predictions: `identity` [N], `label` [N], `prediction` [N], `logits` float32 [N, C].

        Raises:
            MissingError: The trial has none.
        """
        return read_predictions(self._tracking_uri, run_id)

    def _all_runs(self) -> list[str]:
        return [trial.run_id for trial in self.record.trials]


def run_study(
    study: str | Path | Mapping[str, Any],
    changes: Mapping[str, Any] = MappingProxyType({}),
    *,
    output: str | Path | None = None,
    tracking_uri: str | None = None,
    address: str = "local",
    max_hours: float | None = None,
    max_gpu_hours: float | None = None,
    report_directory: str | Path | None = None,
    strict: bool = False,
    pack: bool = True,
    show_progress: bool = True,
) -> StudyOutcome:
    """Run what is not done yet of a study and write its report, as `adaptertune run` does.

    Example:
        >>> from tuning.api import run_study
        >>> changes = {"seed": [0, 1], "method": ["head_only"], "claims": [], "training.epochs": 2}
        >>> outcome = run_study("demo", changes, show_progress=False)
        >>> sorted({status.value for status in outcome.statuses.values()}), outcome.num_run
        (['COMPLETED'], 2)

        What is done stays done:

        >>> run_study("demo", changes, show_progress=False).num_run
        0

    Args:
        study: A shipped study's name, a YAML file's path, or the keys of one.
        changes: Fields to replace in a study of a file, by path: `{"training.epochs": 3}`.
        output: Where results are kept; none: `$ADAPTERTUNE_OUTPUT`, else `./adaptertune-output`.
        tracking_uri: The MLflow store; none: sqlite in the output folder.
        address: The Ray cluster: `local` starts one on this machine, `auto` and `HOST:PORT` use one that stands.
        max_hours: After so many hours no trial and no epoch starts; the same call goes on from there.
        max_gpu_hours: The same, once this run's trials have held GPUs for so many hours, added up.
        report_directory: Where the report goes; none: `reports/STUDY` in the output folder.
        strict: Refuse to report a study with missing seeds.
        pack: Whether trials may train in one pass over their frozen backbone.
        show_progress: Whether stderr tells how the study gets on.

    Returns:
        How it ended; `outcome.report.index` is the page. Interrupting the kernel ends it with `interrupted` true.

    Raises:
        AdapterTuneError: The request is wrong, or something it needs is missing; nothing finished is lost.
    """
    loaded = _loaded(study, changes)
    check_address(address)
    folder = output_folder(output)
    settings = RunSettings(
        output_directory=folder,
        tracking_uri=tracking_uri or default_tracking_uri(folder),
        cluster_address=address,
        max_hours=max_hours,
        max_gpu_hours=max_gpu_hours,
        report_directory=None if report_directory is None else Path(report_directory),
        strict=strict,
        pack=pack,
    )
    for warning in budget_warnings(loaded):
        _logger.warning("%s", warning)
    return running.run_study(loaded, settings, _progress(loaded, folder, show_progress))


def load_results(study: str, *, output: str | Path | None = None, tracking_uri: str | None = None) -> StudyResults:
    """Read a study's results back from tracking alone, also while it runs.

    Example:
        >>> from tuning.api import load_results, run_study
        >>> changes = {"seed": [0, 1], "method": ["head_only"], "claims": [], "training.epochs": 2}
        >>> outcome = run_study("demo", changes, show_progress=False)
        >>> results = load_results("demo")
        >>> [row["method"] for row in results.trials]
        ['head_only', 'head_only']
        >>> results.summary["conditions"][0]["num_seeds"]
        2
        >>> [len(epochs) for epochs in results.curves().values()]
        [3, 3]

    Args:
        study: Its name.
        output: The folder that holds the default store; none: `$ADAPTERTUNE_OUTPUT`, else `./adaptertune-output`.
        tracking_uri: The MLflow store; none: sqlite in the output folder.

    Raises:
        RequestError: The store has no results of this study.
        MissingError: The store does not answer.
    """
    uri = tracking_uri or default_tracking_uri(output_folder(output))
    record = read_study(uri, study)
    return StudyResults(record, summary_of(analyse(record, *report_readers(uri))), list(trial_rows(record)), uri)


def _loaded(study: str | Path | Mapping[str, Any], changes: Mapping[str, Any]) -> Study:
    if not isinstance(study, Mapping):
        return load_study(str(study), changes=changes)
    if changes:
        rule = "replaces fields of a study that is read from a file"
        raise RequestError("changes", dict(changes), rule, "Write the values into the mapping.")
    return study_of(study)


def _progress(study: Study, folder: Path, is_shown: bool) -> running.Progress:
    from tuning.cli.progress import LiveProgress

    return LiveProgress(study.spec.name, folder) if is_shown else running.NoProgress()
