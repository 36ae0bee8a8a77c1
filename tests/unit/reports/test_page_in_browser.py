"""Opens the page from disk in headless Chromium, without a network, and uses it as a reader does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

OUTSIDE_BOXES_THAT_SCROLL = """
() => [...document.querySelectorAll("body *")]
  .filter((one) => !one.closest(".table-box, .drawing-box, .command") && one.getBoundingClientRect().width > 0)
  .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((one) => one.outerHTML.slice(0, 80))
"""

CONTRAST = """
() => {
  const luminance = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const linear = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const style = (name) => getComputedStyle(document.querySelector(name));
  const [ink, soft, paper] = [style("body").color, style(".note").color, style("body").backgroundColor].map(luminance);
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return [ratio(ink, paper), ratio(soft, paper), paper];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def open_page(browser: Any, built: Any) -> Iterator[Any]:
    contexts, complaints = [], []

    def opened(width: int = 1400, scheme: str = "light") -> Any:
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(built[0].index.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def page(open_page: Any) -> Any:
    return open_page()


def first_cells(page: Any, column: int = 0) -> list[str]:
    return page.locator(f"#table-results tbody tr:visible > td:nth-child({column + 1})").all_inner_texts()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1400, "dark")])
def test_page_is_readable_when_narrow_or_wide_light_or_dark(open_page: Any, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE_BOXES_THAT_SCROLL) == []
    ink, soft, paper = page.evaluate(CONTRAST)
    # WCAG 2.2, 1.4.3: at least 4.5 to 1.
    assert min(ink, soft) > 4.5
    assert (paper > 0.5) == (scheme == "light")


def test_first_screen_says_what_was_found_when_opened(page: Any) -> None:
    findings = page.locator(".findings p")
    assert findings.count() == 3
    assert all(findings.nth(index).bounding_box()["y"] < 900 for index in range(3))


def test_names_stand_on_one_line_when_the_window_is_wide(page: Any) -> None:
    heights = page.evaluate("[...document.querySelectorAll('#table-results tbody tr')].map((row) => row.offsetHeight)")
    # A line is 20 px, the padding 12.
    assert max(heights) < 40


def test_rows_are_sorted_both_ways_when_a_heading_is_clicked(page: Any) -> None:
    heading = page.locator("#table-results th", has_text="Trained parameters")
    heading.get_by_role("button").click()
    assert (heading.get_attribute("aria-sort"), first_cells(page)[0]) == ("ascending", "Head only")
    heading.get_by_role("button").click()
    # Most trained parameters: 201,290.
    assert (heading.get_attribute("aria-sort"), first_cells(page)[0]) == ("descending", "Full fine-tuning")


def test_rows_are_filtered_when_words_are_typed(page: Any) -> None:
    page.locator("[data-filter=table-results]").fill("last adaptertune")
    assert first_cells(page) == ["AdapterTune r16 · last 2 blocks · zero init"]
    page.locator("[data-filter=table-results]").fill("")
    assert len(first_cells(page)) == 11


def test_every_cell_leads_to_its_runs_when_opened(page: Any, built: Any) -> None:
    cells = page.locator("#table-results tbody td:not(.drawn)")
    assert page.locator("#table-results tbody td:not(.drawn) details").count() == cells.count()
    cell = page.locator("#table-results tbody tr", has_text="Head only").locator("td").first
    cell.locator("summary").click()
    sync_api.expect(cell.locator(".run")).to_have_text(built[0].summary["conditions"][0]["run_ids"])
    cell.locator(".how").click()
    assert page.url.endswith("#open-runs")


def test_seed_says_its_score_and_run_when_pointed_at_and_clicked(page: Any, built: Any) -> None:
    seed = page.locator("#figure-rank .seed").first
    seed.scroll_into_view_if_needed()
    page.wait_for_timeout(100)  # scrolling hides the tip
    seed.dispatch_event("pointerenter")
    first = built[0].summary["conditions"][1]
    validation = page.locator("#tip").inner_text()
    assert validation.startswith(f"{first['label']}, seed 0: ")
    seed.dispatch_event("click")
    sync_api.expect(page.locator("#tip")).to_contain_text(first["run_ids"][0])


def test_mark_is_large_enough_to_hit_when_pointed_at(page: Any) -> None:
    seed = page.locator("#figure-placement .seed").first
    seed.scroll_into_view_if_needed()
    assert seed.bounding_box()["width"] > 9
    seed.hover(force=True)
    sync_api.expect(page.locator("#tip")).to_be_visible()


def test_buttons_give_the_files_content_when_clicked(page: Any, built: Any, tmp_path: Path) -> None:
    tables = built[1] / "tables"
    with page.expect_download() as saved:
        page.locator("[data-save-from=csv-results]").click()
    saved.value.save_as(tmp_path / "saved.csv")
    assert (tmp_path / "saved.csv").read_bytes() == (tables / "results.csv").read_bytes()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("[data-copy-from=latex-results]").click()
    sync_api.expect(page.locator("[data-copy-from=latex-results].copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == (tables / "results.tex").read_text()


def test_page_prints_in_light_colours_when_the_screen_is_dark(open_page: Any) -> None:
    page = open_page(1400, "dark")
    page.emulate_media(media="print")
    assert page.evaluate(CONTRAST)[2] > 0.9
    assert page.locator(".filter:visible, .forms:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--link')") == "#0b5a94"
    assert page.pdf()[:5] == b"%PDF-"


def test_inner_links_lead_somewhere_when_followed(page: Any) -> None:
    broken = "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.querySelector(a.hash))"
    assert page.evaluate(f"{broken}.length") == 0


def test_figures_have_a_text_alternative_when_drawn(page: Any) -> None:
    named = page.get_by_role("img")
    assert named.count() == page.locator(".drawing").count()
    assert page.locator(".drawing > title").first.text_content().startswith("Accuracy against rank.")
