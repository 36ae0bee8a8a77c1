"""How one trial runs: the story in `trial.py`, its parts beside it."""
