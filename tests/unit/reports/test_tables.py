import csv
import io

from reports.tables import Cell, Column, Table, to_csv, to_latex, to_markdown, without_constants


def make_table(*names):
    columns = (Column("name", "Name"), Column("score", "Score, %", numeric=True))
    rows = tuple((Cell(name), Cell("97.00 ± 0.10", 0.97, ("run1", "run2"))) for name in names)
    return Table("results", "Results", "A caption with 100 % and a_b.", columns, rows)


def test_latex_uses_booktabs_and_escapes_when_names_hold_specials():
    text = to_latex(make_table("a_b & 50% #1 {x} ~ ^ \\ $"))
    assert r"a\_b \& 50\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$" in text
    assert [rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [True] * 3
    assert r"97.00 +- 0.10 \\" in text
    assert r"{lS[table-format=2.2(2)]}" in text
    assert "% runs: run1 run2" in text


def test_latex_aligns_numbers_and_leaves_the_rest_when_a_column_holds_both():
    columns = (Column("name", "Name"), Column("score", "Score, %", numeric=True), Column("reason", "Why", numeric=True))
    texts = ["97.25 ± 10.10", "−3.5", "11\u2009114", "missing"]
    best = Cell("99.10 ± 0.05", is_best=True)
    rows = tuple((Cell("a"), cell, Cell("[0.1, 0.2]")) for cell in [*map(Cell, texts), best])
    text = to_latex(Table("results", "Results", "A caption.", columns, rows))
    # Five digits before the point, two after, four of uncertainty, and a sign.
    assert "{lS[table-format=+5.2(4)]r}" in text
    cells = [line.split(" & ")[1] for line in text.splitlines() if line.startswith("a & ")]
    assert cells == ["97.25 +- 10.10", "-3.5", "11114", "{missing}", r"\bfseries 99.10 +- 0.05"]


def test_mark_is_set_apart_when_a_cell_is_cited():
    table = Table("t", "T", "c", (Column("a", "A", True),), ((Cell("98.90", 0.989, mark="cited"),),))
    assert "98.90 *cited*" in to_markdown(table)
    assert r"98.90 \emph{cited}" in to_latex(table)


def test_markdown_escapes_when_names_hold_specials():
    text = to_markdown(make_table("<b>|x_y*"))
    assert r"&lt;b&gt;\|x\_y\*" in text
    assert "<b>" not in text


def test_csv_reads_back_raw_values_when_parsed():
    (row,) = csv.DictReader(io.StringIO(to_csv(make_table('quote " and, comma'))))
    assert row == {"name": 'quote " and, comma', "score": "0.97", "run_ids": "run1 run2"}


def test_cell_stays_on_one_line_when_text_has_newlines():
    assert "a b" in to_markdown(make_table("a\nb"))
    assert "a b" in to_latex(make_table("a\r\nb"))


def test_constant_column_moves_to_the_caption_when_every_row_has_it():
    table = without_constants(make_table("same", "same"), ("name",))
    assert [column.key for column in table.columns] == ["score"]
    assert "name same" in to_markdown(table)
