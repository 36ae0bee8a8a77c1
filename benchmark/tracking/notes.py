"""What a person reads in MLflow's pages beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.result import TrialResult
from benchmark.tracking.records import PlannedTrial

HOW_TO_READ = """\
**How to read it.** The run named after the study holds the question, the plan and, once made, the report (Artifacts,
`report/index.html`). Each run nested in it is one trial: one backbone, data set, method and seed.

* Best first: sort by `test_top1`, the share of test images labelled rightly, read once at the end. `adaptertune ui`
  opens this table with the telling columns.
* Curves: the chart view shows `validation_top1`, `train_loss` and `feature_drift` an epoch.
* Same condition, other seeds: group by `condition_id`. What went wrong: the tags `status` and `reason`.
"""


def study_note(question: str, planned: Sequence[PlannedTrial]) -> str:
    """Return the description of a study: its question, its size and how to read the table (Markdown)."""
    num_conditions = len({trial.condition_id for trial in planned})
    size = f"{len(planned)} trials planned: {num_conditions} conditions, each under one or more seeds."
    heading = f"**Question.** {question.strip()}\n\n" if question.strip() else ""
    return f"{heading}{size}\n\n{HOW_TO_READ}"


def trial_note(result: TrialResult) -> str:
    """Return the description of a trial that has ended (Markdown)."""
    lines = [_outcome(result), _origin(result)]
    if result.test:
        lines.append(
            "`predictions.parquet` has every test image's label, prediction and logits; `confusion.csv` counts them "
            "by class; `adapter.safetensors` has the tested weights."
        )
    return "\n\n".join(line for line in lines if line)


def _outcome(result: TrialResult) -> str:
    if result.test is None and result.validation is not None:
        correct = f"{result.validation.top1:.2%} of {result.validation.num_images} validation images"
        return f"**{result.status.value}**: {correct} labelled rightly; the test split stayed closed."
    if result.test is None:
        return f"**{result.status.value}**: no test accuracy. The tag `reason` and `result.json` say why."
    chosen = "" if result.selected_epoch is None else f", weights of epoch {result.selected_epoch}"
    if result.soup_members:
        chosen = f", the mean of {len(result.soup_members)} trials' weights"
    images = f"{result.test.num_images} test images"
    return f"**{result.status.value}**: {result.test.top1:.2%} of {images} labelled rightly{chosen}."


def _origin(result: TrialResult) -> str:
    if result.provenance is None:
        return ""
    commit = (result.provenance.git_commit or "unknown")[:12]
    changed = ", with uncommitted changes" if result.provenance.git_dirty else ""
    return f"Code: `{commit}`{changed}. Device: {result.provenance.device}."
