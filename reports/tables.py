"""One table, four forms: a `Table` is laid out once and written as Markdown, LaTeX (booktabs), CSV and HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

LATEX_SPECIALS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "–": "--",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "\u2009": r"\,",
}

PREAMBLE = "\n".join(
    [
        r"% \usepackage{booktabs}",
        r"% \usepackage{siunitx}",
        r"% \sisetup{separate-uncertainty=true, table-align-uncertainty=true, detect-weight=true}",
    ]
)
"""What a document that takes a table in needs, as comments."""

_NUMBER = re.compile(r"(?P<sign>[+−]?)(?P<whole>\d+)(?:\.(?P<decimals>\d+))?(?: ± (?P<std>[\d.]+))?")

Raw = bool | int | float | str | None


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What a reader sees.
        value: The number behind it, in the unit of `summary.json`; none for text and for what is absent.
        run_ids: The runs the number comes from.
        reason: Why it is absent, or what is unusual about it.
        forest: Low, mean and high of an interval to draw beside the number, fractions.
        is_best: Whether it is set in bold: better than its rivals beyond doubt, not merely the largest.
        mark: What sets it apart from this study's own numbers, such as `cited`; set in italics after the text.
    """

    text: str
    value: Raw = None
    run_ids: tuple[str, ...] = ()
    reason: str | None = None
    forest: tuple[float, float, float] | None = None
    is_best: bool = False
    mark: str | None = None


@dataclass(frozen=True)
class Column:
    """One column: its name in CSV, its heading, and whether it holds numbers."""

    key: str
    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; every row has one cell a column."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    constants: dict[str, str] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return len(self.rows)


def without_constants(table: Table, keys: Sequence[str]) -> Table:
    """Return the table without those of the named columns that hold one same text, which go into `constants`."""
    if table.num_rows < 2:
        return table
    constant = {
        index: table.rows[0][index].text
        for index, column in enumerate(table.columns)
        if column.key in keys and len({row[index].text for row in table.rows}) == 1
    }
    kept = [index for index in range(len(table.columns)) if index not in constant]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
        constants={table.columns[index].title: text for index, text in constant.items()},
    )


def caption_of(table: Table) -> str:
    """Return the caption with what is the same in every row."""
    constants = ", ".join(f"{title.lower()} {text}" for title, text in table.constants.items() if text != "–")
    return f"{table.caption} In every row: {constants}." if constants else table.caption


def to_markdown(table: Table) -> str:
    """Return the table as GitHub Markdown, specials escaped."""
    header = "| " + " | ".join(escape_markdown(column.title) for column in table.columns) + " |"
    rule = "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|"
    rows = ["| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join([header, rule, *rows, "", escape_markdown(caption_of(table)), ""])


def to_latex(table: Table) -> str:
    """Return the table as LaTeX with booktabs and siunitx; each row's runs stand in a comment above it."""
    numbers = [_number_format(table, index) for index in range(len(table.columns))]
    alignment = "".join(number or ("r" if table.columns[i].numeric else "l") for i, number in enumerate(numbers))
    lines = [PREAMBLE, r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{escape_latex(caption_of(table))}}}", rf"\label{{tab:{_label(table.name)}}}"]
    lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    titles = [_latex_cell(Cell(column.title), number) for column, number in zip(table.columns, numbers, strict=True)]
    lines += [" & ".join(titles) + r" \\", r"\midrule"]
    for row in table.rows:
        runs = runs_of(row)
        lines += [f"% runs: {_one_line(' '.join(runs))}"] if runs else []
        cells = [_latex_cell(cell, number) for cell, number in zip(row, numbers, strict=True)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _number_format(table: Table, index: int) -> str | None:
    """Return siunitx's format of a column that holds numbers, wide enough for each of them; none for other columns."""
    found = [_NUMBER.fullmatch(row[index].text.replace("\u2009", "")) for row in table.rows]
    numbers = [match for match in found if match]
    if not table.columns[index].numeric or not numbers:
        return None
    sign = "+" if any(match["sign"] for match in numbers) else ""
    whole = max(len(match["whole"]) for match in numbers)
    decimals = max(len(match["decimals"] or "") for match in numbers)
    spreads = [match["std"].replace(".", "").lstrip("0") or "0" for match in numbers if match["std"]]
    spread = f"({max(map(len, spreads))})" if spreads else ""
    return f"S[table-format={sign}{whole}.{decimals}{spread}]"


def _latex_cell(cell: Cell, number_format: str | None) -> str:
    """Return a cell as LaTeX; in a column of numbers siunitx takes the numbers, and braces keep it off the rest."""
    bold, mark = (r"\bfseries " if cell.is_best else ""), rf" \emph{{{escape_latex(cell.mark)}}}" if cell.mark else ""
    plain = cell.text.replace("\u2009", "")
    if number_format and not mark and _NUMBER.fullmatch(plain):
        return bold + plain.replace("−", "-").replace(" ± ", " +- ")
    text = bold + escape_latex(cell.text) + mark
    return f"{{{text}}}" if number_format or bold else text


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return (f"**{text}**" if cell.is_best else text) + (f" *{escape_markdown(cell.mark)}*" if cell.mark else "")


def to_csv(table: Table) -> str:
    """Return the table as CSV: raw values, blank where absent, and the runs in the last column."""
    rows = [
        [*(_raw(cell, column) for cell, column in zip(row, table.columns, strict=True)), " ".join(runs_of(row))]
        for row in table.rows
    ]
    return csv_text([[*(column.key for column in table.columns), "run_ids"], *rows])


def csv_text(rows: Sequence[Sequence[Raw]]) -> str:
    """Return rows as CSV with Unix line ends."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def runs_of(row: Sequence[Cell]) -> tuple[str, ...]:
    """Return the runs behind a row, each once."""
    return tuple(dict.fromkeys(run_id for cell in row for run_id in cell.run_ids))


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(LATEX_SPECIALS.get(character, character) for character in _one_line(text))


def escape_markdown(text: str) -> str:
    """Return text that Markdown prints as it is, HTML included."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", _one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _raw(cell: Cell, column: Column) -> Raw:
    if cell.value is not None:
        return cell.value
    return "" if column.numeric else _one_line(cell.text)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)
