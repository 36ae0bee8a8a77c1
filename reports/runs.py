"""Leads from a number to its MLflow runs: a link where tracking is a web server, else the command that opens them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from benchmark.tracking import study_page, without_password

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord


class RunNumbers:
    """Numbers the runs that a page names, so that an id stands in it once and not behind each number again.

    Attributes:
        run_ids: The runs by their number.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.run_ids: list[str] = []
        self._known: dict[str, int] = {}

    def of(self, run_ids: Sequence[str]) -> str:
        """Return the runs' numbers, with spaces between them; new ones are added."""
        for run_id in run_ids:
            if run_id not in self._known:
                self._known[run_id] = len(self.run_ids)
                self.run_ids.append(run_id)
        return " ".join(str(self._known[run_id]) for run_id in run_ids)


@dataclass(frozen=True)
class RunLinks:
    """Where the runs of a study are to be seen.

    Attributes:
        tracking_uri: The store, without a password.
        experiment_id: The MLflow experiment.
        study_run_id: The parent run.
    """

    tracking_uri: str
    experiment_id: str
    study_run_id: str

    @classmethod
    def of(cls, study: StudyRecord) -> RunLinks:
        """Return the links of a study."""
        return cls(without_password(study.tracking_uri), study.experiment_id, study.run_id)

    @property
    def is_web(self) -> bool:
        """Whether tracking is a server that a browser can open."""
        return self.tracking_uri.startswith(("http://", "https://"))

    @property
    def store_file(self) -> str:
        """The name of a local store's file; its folder is one machine's matter."""
        return PurePosixPath(self.tracking_uri).name

    @property
    def command(self) -> str:
        """The command that opens a local store, given in the folder that holds it."""
        return f"adaptertune ui --tracking-uri {shlex.quote(f'sqlite:///{self.store_file}')}"

    def path(self, run_id: str) -> str:
        """Return where the MLflow UI shows a run, below its address."""
        return f"#/experiments/{quote(self.experiment_id, safe='')}/runs/{quote(run_id, safe='')}"

    def href(self, run_id: str) -> str | None:
        """Return the link to a run; none where tracking is not a web server."""
        return f"{self.tracking_uri.rstrip('/')}/{self.path(run_id)}" if self.is_web else None

    @property
    def runs_address(self) -> str | None:
        """The address to which a run's id is appended; none where tracking is not a web server."""
        return self.href("")

    @property
    def study_href(self) -> str | None:
        """The link to the study's table of trials; none where tracking is not a web server."""
        return study_page(self.tracking_uri, self.experiment_id) if self.is_web else None
