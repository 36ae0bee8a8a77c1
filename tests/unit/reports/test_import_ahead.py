"""A report's drawing and statistics find what they import already there."""

import subprocess
import sys

PROGRAM = """
import sys
from reports.build import import_ahead
import_ahead()
before = set(sys.modules)
from reports.figures.drawing import panels, render
from reports.statistics.images import wilson_interval
figure, ((axes,),) = panels(1)
axes.plot([1, 2], [1, 2])
render(figure)
wilson_interval(0.3, 10)
print(*{name.partition(".")[0] for name in set(sys.modules) - before} & {"matplotlib", "scipy", "fontTools", "jinja2"})
"""


def test_nothing_of_the_drawing_and_statistics_packages_is_left_to_import():
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == []
