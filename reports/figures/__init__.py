"""The report's figures: each drawn in one file, or left out with a sentence that says why."""
