"""A program for torchrun: trains trials in one pass, and writes rank 0's result and predictions of each.

Usage: pack_ranks.py FOLDER TRIAL.yaml...: writes FOLDER/NUMBER/.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmark.request import read_trial
from benchmark.result import TrialOutcome
from benchmark.standalone import write_outcome
from benchmark.training.process_group import join_from_environment, leave
from benchmark.training.trial import pack_steps

folder, *files = map(Path, sys.argv[1:])
trials = [read_trial(file) for file in files]
join_from_environment("cpu")
places = {spec.trial_id: folder / str(number) for number, (spec, _) in enumerate(trials)}
for step in pack_steps([spec for spec, _ in trials], trials[0][1], [None] * len(trials)):
    if isinstance(step.report, TrialOutcome) and os.environ["RANK"] == "0":
        write_outcome(step.report, places[step.trial_id])
leave()
