"""The runner of the documentation's blocks fails where a reader would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.snippets import blocks_of, run_page

PAGE = """# A page

<!-- file: greeting.txt -->
```python
WORD
```

<!-- with: NAME => greeting.txt -->
<!-- first: touch made-before -->
```sh
grep WORD NAME
ls made-before
```

<!-- fails: 2 -->
```sh
exit 2
```

<!-- not run: nobody has such a machine -->
```sh
exit 1
```

```text
what it prints
```

```python
print(open("greeting.txt").read())
```
"""


def write_page(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def run_in_empty_folder(folder: Path, text: str) -> int:
    (folder / "empty").mkdir()
    return run_page(write_page(folder, text), folder / "empty")


def test_blocks_are_read_with_their_marks_when_a_page_has_some(tmp_path: Path) -> None:
    blocks = blocks_of(write_page(tmp_path, PAGE))
    assert [block.language for block in blocks] == ["python", "sh", "sh", "sh", "text", "python"]
    assert blocks[1].marks == {"with": ["NAME => greeting.txt"], "first": ["touch made-before"]}
    assert [block.is_left_to_others for block in blocks] == [False, False, False, True, True, False]


def test_blocks_run_in_order_when_all_succeed(tmp_path: Path) -> None:
    assert run_in_empty_folder(tmp_path, PAGE) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("grep WORD NAME", "grep OTHER NAME"), r"page.md:10: exit status 1"),
        (("NAME => greeting", "NOTHING => greeting"), "there is no 'NOTHING' to replace"),
        (("exit 2", "exit 3"), "page.md:16: exit status 3"),
        (("<!-- file: greeting.txt -->\n```python", "```yaml"), "says neither its file nor what it is part of"),
    ],
)
def test_page_fails_when_a_block_does_not_do_what_it_says(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        run_in_empty_folder(tmp_path, PAGE.replace(*change))
