"""The site builds without a warning, so no link between its pages is broken, and its reference follows the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", *BUILD, "-d", str(folder / "trees"), "docs", str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.docs
def test_every_page_is_in_the_site_when_built(site: Path) -> None:
    sources = [path for pattern in ("*.md", "*.ipynb") for path in (ROOT / "docs").rglob(pattern)]
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert sources and {path.relative_to(ROOT / "docs").with_suffix("") for path in sources} <= built


@pytest.mark.docs
def test_reference_shows_docstrings_and_the_notebook_its_outputs(site: Path) -> None:
    reference, notebook = ((site / name).read_text() for name in ("reference/python.html", "tutorial/notebook.html"))
    assert "Freeze a Vision Transformer, attach an adaptation method" in reference
    assert "run_study" in reference and "data:image/png" not in reference
    assert "cell_output" in notebook


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What writes the generated pages."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import reference_pages

    yield reference_pages


def test_command_page_names_every_command_and_option_when_written(pages: Any) -> None:
    text = pages.command_page()
    for words, command in pages.commands():
        section = text.split(f"## {words}\n", 1)[1].split("\n## ", 1)[0]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        assert [option for option in options if option not in section] == [], words


def test_study_page_names_every_field_when_written(pages: Any) -> None:
    from benchmark.spec import TrainingSpec
    from tuning.study_spec import ResourcesSpec, StudySpec

    text = pages.study_page()
    fields = [name for model in (StudySpec, ResourcesSpec, TrainingSpec) for name in model.model_fields]
    assert [name for name in fields if f"| `{name}` |" not in text] == []
    assert "| `prefix_cache_bytes` | whole number | bytes | `2147483648` |" in text
    assert "| `learning_rate` | number | – | `0.001` | peak learning rate · > 0 |" in text


def test_other_pages_name_every_member_when_written(pages: Any) -> None:
    from benchmark.backbones.contract import backbone_names
    from benchmark.datasets.contract import dataset_names
    from benchmark.methods.contract import method_names

    assert [name for name in method_names() if f"## {name}\n" not in pages.methods_page()] == []
    assert [name for name in backbone_names() if f"`{name}`" not in pages.backbones_page()] == []
    assert [name for name in dataset_names() if f"`{name}`" not in pages.datasets_page()] == []
