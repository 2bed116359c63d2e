"""What reads the documents finds what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import anchors, blocks, broken_links, command_lines, links
from tests.docs.test_docs import run_blocks

PAGE = """# The page

See [the other](other.md#two-words) and ![a picture](gone.svg), not `[code](no.md)`.

```python
value = 1
```

```console
$ distcel search --seed 1 && echo done
.venv/bin/python launch/reproduce.py \\
    --seeds 3  # three
python other.py
```

<!-- not run: no reason -->

```python no-run
[text](fenced.md)
```
"""


def test_blocks_are_found_with_their_line_and_what_is_above() -> None:
    first, second, third = blocks(PAGE)
    assert (first.info, first.text, first.line) == ("python", "value = 1", 6)
    assert second.info == "console"
    assert (third.info, third.before) == ("python no-run", "<!-- not run: no reason -->")


def test_commands_are_found_and_others_left_out() -> None:
    found = list(command_lines(PAGE))
    assert found == [["search", "--seed", "1"], ["reproduce", "--seeds", "3"]]


def test_links_in_code_are_none() -> None:
    assert links(PAGE) == ["other.md#two-words", "gone.svg"]


def test_missing_files_and_anchors_are_broken_links(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text(PAGE)
    other.write_text("## Two words\n\n[up](../elsewhere.md) [back](page.md#no-such)\n")
    assert broken_links(page, tmp_path) == ["gone.svg"]
    assert broken_links(other, tmp_path) == ["../elsewhere.md", "page.md#no-such"]


def test_anchors_are_those_that_github_makes() -> None:
    text = "# A `k`, and more\n\n## Twice\n\n## Twice\n\n```\n# a comment\n```\n"
    assert anchors(text) == {"a-k-and-more", "twice", "twice-1"}


def test_a_block_that_fails_is_named_by_page_and_line(tmp_path: Path) -> None:
    text = "# Page\n\n```python\nvalue = 1\n```\n\n```python\nvalue / 0\n```\n"
    with pytest.raises(ZeroDivisionError) as failed:
        run_blocks(tmp_path / "page.md", blocks(text))
    last = failed.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(tmp_path / "page.md"), 8)
