"""The report of the full synthetic study, built once for all tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.build import Report, build_report
from tests.unit.reports.synthetic import curves_of, full_study, losses_of


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    study, directory = full_study(), tmp_path_factory.mktemp("report")
    return build_report(study, curves_of(study), directory, first_losses=losses_of(study)), directory
