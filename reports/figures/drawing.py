"""What the figures share: colours that colour-blind readers tell apart, reproducible files, a page-ready SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from reports.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Group = TypeVar("Group")

INK = "#1f2328"
RULE = "#d5d9de"
PAPER = "#fefefe"
BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#d55e00",
    "#56b4e9",
    "#7a7f85",
)
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
"""Okabe and Ito's colours without the yellow, which vanishes on white; grey for black, which vanishes on dark."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X")
PANELS_PER_ROW = 3
WIDTH_OF_ONE = 4.3
"""Inches of a single panel: on a phone's page, where it is scaled to fit, its text is still readable."""

MOST_MARKED_SEEDS = 400
"""Each is an artist of its own, which costs time and bytes; larger figures draw a condition's seeds as one."""
MOST_SEEDS_DRAWN = 50
"""Of one condition on one split: hundreds at one place are a blot, and most of the page's bytes."""
MOST_PANELS = 15
"""As many as the paper's core comparison has pairs: a figure of hundreds takes minutes, and nobody reads it."""
LONGEST_LINE = 32
"""Characters of a heading that fit a panel."""

SETTINGS: dict[str, object] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.axisbelow": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "adaptertune",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True)
class SeedMark:
    """A seed's mark in a figure: what it says when pointed at, and the run it opens."""

    text: str
    run_id: str


@dataclass(frozen=True)
class Drawing:
    """A figure as the report needs it.

    Attributes:
        name: Its files' stem.
        title: Its heading.
        caption: What is drawn and how to read it.
        alternative: What it shows, in words, for a reader who does not see it.
        table: The numbers behind it; none where it is left out.
        files: Bytes by suffix (png, svg, pdf); empty where it is left out.
        left_out: Why it is left out; none where it is drawn.
        num_panels: How many panels it has side by side at most.
        marks: The seeds' marks by the id they have in the SVG.
    """

    name: str
    title: str
    caption: str = ""
    alternative: str = ""
    table: Table | None = None
    files: Mapping[str, bytes] | None = None
    left_out: str | None = None
    num_panels: int = 1
    marks: Mapping[str, SeedMark] = field(default_factory=dict)

    def svg(self, href: Callable[[str], str | None] = lambda run_id: None) -> str:
        """Return the figure as SVG that stands inside the page and takes the page's colours.

        Args:
            href: Returns the link to a run; none where it has no address.
        """
        assert self.files is not None, "a figure that is left out has no SVG"
        svg = inline_svg(self.files["svg"].decode(), self.name, self.alternative)
        for key, mark in self.marks.items():
            svg = svg.replace(f'<g id="{self.name}-{key}">', _opening(f"{self.name}-{key}", mark, href(mark.run_id)), 1)
        return svg


@contextmanager
def report_style() -> Iterator[None]:
    """Draw with the report's settings. The figures need no display, and a notebook's own way of showing its stays."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        yield


def first_panels(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """Return the groups that are drawn, a panel each, and what the caption says of the rest; nothing when all are."""
    if len(groups) <= MOST_PANELS:
        return groups, ""
    return groups[:MOST_PANELS], f" The first {MOST_PANELS} of {len(groups)} panels; the table holds all."


def panels(num_panels: int, num_rows_each: int = 1, height: float = 2.7) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with its axes as [row of a panel][panel]; at most `PANELS_PER_ROW` panels side by side."""
    from matplotlib.figure import Figure

    num_columns = 2 if num_panels == 4 else min(num_panels, PANELS_PER_ROW)
    num_bands = -(-num_panels // num_columns)
    width = {1: WIDTH_OF_ONE, 2: 7.6}.get(num_columns, 9.6)
    figure = Figure(figsize=(width, height * num_rows_each * num_bands), layout="constrained")
    grid = figure.subplots(num_bands * num_rows_each, num_columns, squeeze=False)
    rows = [
        [grid[(panel // num_columns) * num_rows_each + row][panel % num_columns] for panel in range(num_panels)]
        for row in range(num_rows_each)
    ]
    used = {id(axes) for row in rows for axes in row}
    for axes in grid.flat:
        axes.set_visible(id(axes) in used)
    return figure, rows


def render(figure: Figure) -> dict[str, bytes]:
    """Return the figure as PNG, SVG and PDF, the same bytes each time."""
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    # Laid out once: the same places in every format, and the layout is what takes the time.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    files = {}
    for suffix, values in metadata.items():
        buffer = io.BytesIO()
        facecolor = "white" if suffix == "png" else "none"
        figure.savefig(buffer, format=suffix, metadata=values, dpi=160, facecolor=facecolor)
        files[suffix] = buffer.getvalue()
    return files


def inline_svg(svg: str, name: str, alternative: str) -> str:
    """Return matplotlib's SVG for use inside HTML: no prologue, ids of its own, the page's ink and rules."""
    from xml.sax.saxutils import escape

    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\s(?:xmlns|xmlns:xlink|version)="[^"]*"', "", body)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', body)[1])  # type: ignore[index]
    body = re.sub(r'^<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" {_role(name, width)}>', body, count=1)
    body = body.replace(' id="', f' id="{name}-').replace("url(#", f"url(#{name}-")
    body = body.replace('xlink:href="#', f'href="#{name}-')
    for position, colour in enumerate(PALETTE):
        body = body.replace(colour, f"var(--series-{position})")
    body = body.replace(INK, "currentColor").replace(RULE, "var(--rule)").replace(PAPER, "var(--paper)")
    return body.replace(">", f"><title>{escape(alternative)}</title>", 1)


def _opening(key: str, mark: SeedMark, link: str | None) -> str:
    """Return the opening tag of a seed's mark."""
    from xml.sax.saxutils import quoteattr

    values = {"id": key, "class": "seed", "data-tip": mark.text, "data-run": mark.run_id, "data-href": link}
    attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items() if value)
    return f"<g {attributes}>"


class SeedMarks(dict[str, SeedMark]):
    """Collects the seeds' marks while a figure is drawn; in one of more than `MOST_MARKED_SEEDS` none has a name."""

    def __init__(self, num_seeds: int) -> None:
        """Begin with none.

        Args:
            num_seeds: How many the figure has, over all conditions and splits.
        """
        super().__init__()
        self._are_named = num_seeds <= MOST_MARKED_SEEDS

    def scatter(self, axes: Axes, seeds: Sequence[tuple[float, float, SeedMark]], **style: Any) -> None:
        """Draw seeds at (x, y), each with its own id; of very many those at even distances in their order."""
        seeds = seeds[:: -(-len(seeds) // MOST_SEEDS_DRAWN)] if seeds else seeds
        if not self._are_named:
            axes.plot([x for x, _, _ in seeds], [y for _, y, _ in seeds], ".", **style)
            return
        for x, y, mark in seeds:
            key = f"seed-{len(self)}"
            axes.plot([x], [y], ".", gid=key, **style)
            self[key] = mark


def _role(name: str, width: float) -> str:
    return f'class="drawing" role="img" data-name="{name}" style="width:{width * 4 / 3:.0f}px"'


def panel_title(label: str, backbone: str, dataset: str) -> str:
    """Return a panel's heading; a long backbone name is broken before its pretrained tag, so that it is not cut."""
    if len(backbone) > LONGEST_LINE:
        backbone = backbone.replace(".", "\n.", 1)
    return "\n".join(part for part in (label, backbone, dataset) if part)


def colour_of(position: int) -> str:
    """Return the colour of the n-th series."""
    return PALETTE[position % len(PALETTE)]


def as_percent(values: Sequence[float]) -> list[float]:
    """Return fractions in percent."""
    return [100 * value for value in values]
