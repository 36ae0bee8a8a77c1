"""Remembers in the ledger that a study is run, tracked and reported, so that the same command again has nothing to do.

Nothing is taken on trust that a file or the ledger can tell: the trials' ends, the suite's sources, the report's files,
and, where the store is a database, how many results it holds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from benchmark.provenance import sources_sha256
from benchmark.spec import as_canonical_json
from benchmark.tracking import holds_results
from reports.build import Report
from tuning.ledger import Ledger, LedgerEntry
from tuning.study import Study


def digest_of(study: Study, entries: dict[str, LedgerEntry], report_directory: Path, strict: bool) -> str | None:
    """Return what a report would follow from; none while a trial of the study is open or would run again.

    Args:
        study: With all trials that are known by now.
        entries: What the ledger knows of them.
        report_directory: Where the report goes.
        strict: Whether missing seeds are refused.
    """
    ended = {key: (str(one.state), one.ended_at) for key, one in entries.items() if one.is_final}
    if study.num_trials_to_come or len(ended) < len(study.trial_specs):
        return None
    facts = {
        "study": study.spec.model_dump(mode="json"),
        "trials": ended,
        "report_directory": str(report_directory.resolve()),
        "strict": strict,
        "sources": sources_sha256(),
    }
    return hashlib.sha256(as_canonical_json(facts).encode()).hexdigest()


def settled_report(
    ledger: Ledger, study: Study, tracking_uri: str, digest: str | None, report_directory: Path
) -> Report | None:
    """Return the report that an earlier run has written, where nothing has changed since; none where work is left."""
    run_id = ledger.settled_run(study.spec.name, tracking_uri, digest) if digest else None
    if run_id is None or not holds_results(tracking_uri, run_id, len(study.trial_specs)):
        return None
    index, summary = report_directory / "index.html", report_directory / "summary.json"
    try:
        return Report(json.loads(summary.read_text(encoding="utf-8")), index) if index.is_file() else None
    except (OSError, ValueError):
        return None
