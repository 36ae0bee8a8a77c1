"""The one schema of results in MLflow, written and read here and nowhere else; the only importer of MLflow.

A study is an experiment `adaptertune/<study>` with a parent run; each of its trials is a nested run. The suite's own
ledger stays the truth while a study runs: tracking is where results are looked at, compared and reported from.

MLflow and pyarrow are imported inside functions: importing this package costs neither.
"""

from benchmark.tracking.delivery import Delivery, DeliveryOutcome
from benchmark.tracking.reading import (
    holds_results,
    list_studies,
    read_curves,
    read_first_losses,
    read_outcome,
    read_predictions,
    read_study,
    study_pages,
)
from benchmark.tracking.records import PlannedTrial, StudyRecord, TrackedTrial
from benchmark.tracking.report_files import store_report
from benchmark.tracking.store import (
    StoreUnavailableError,
    create_store,
    database_path,
    default_tracking_uri,
    has_other_tables,
    import_client,
    server_version,
    study_page,
    ui_command,
    ui_environment,
    without_password,
)
from benchmark.tracking.study_tracker import StudyTracker

__all__ = [
    "Delivery",
    "DeliveryOutcome",
    "PlannedTrial",
    "StoreUnavailableError",
    "StudyRecord",
    "StudyTracker",
    "TrackedTrial",
    "create_store",
    "database_path",
    "default_tracking_uri",
    "has_other_tables",
    "holds_results",
    "import_client",
    "list_studies",
    "read_curves",
    "read_first_losses",
    "read_outcome",
    "read_predictions",
    "read_study",
    "server_version",
    "store_report",
    "study_page",
    "study_pages",
    "ui_command",
    "ui_environment",
    "without_password",
]
