"""The documents: their code runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distcel.cli.main import main
from tests.docs.markdown import (
    ROOT,
    Block,
    blocks,
    broken_links,
    command_lines,
    documents,
)

_GENERATED = ROOT / "docs" / "results"
PAGES = [path for path in documents() if not path.is_relative_to(_GENERATED)]
RUNNABLE = [p for p in PAGES if any(b.info == "python" for b in blocks(p.read_text()))]
# The pages whose commands run too, since a new user does all that they say, in this order.
WALKED = {"docs/your-own.md"}
_IN_PROCESS = ["--executor", "inline", "--mlflow-uri", "none"]
COMMANDS = [
    pytest.param(words, id=f"{path.relative_to(ROOT)}: {' '.join(words)}")
    for path in PAGES
    for words in command_lines(path.read_text())
]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run_blocks(path: Path, found: list[Block], commands: bool = False) -> None:
    """Run the Python blocks of a page, one after another in one namespace.

    Tracebacks name the page and its line. A block `toml NAME` is written as that file first.

    Args:
        path: the page.
        found: its blocks.
        commands: whether distcel's commands are run as well, those that train in this process.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in found:
        if commands:
            for words in command_lines(f"```{block.info}\n{block.text}\n```"):
                own = _IN_PROCESS if words[0] in {"search", "select"} else []
                assert main([*words, *own]) == 0, words
        if block.info.startswith("toml "):
            Path(block.info.removeprefix("toml ")).write_text(block.text)
        if block.info == "python":
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", RUNNABLE, ids=_name)
def test_every_python_block_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(path, blocks(path.read_text()), commands=_name(path) in WALKED)


def test_the_first_page_and_the_guides_have_blocks_that_run() -> None:
    names = {_name(path) for path in RUNNABLE}
    assert {"README.md", "docs/guide.md", "docs/your-own.md", "docs/run-directory.md"} <= names


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_a_python_block_that_does_not_run_has_its_reason_above(path: Path) -> None:
    for block in blocks(path.read_text()):
        if block.info.startswith("python") and block.info != "python":
            assert block.info == "python no-run"
            assert re.fullmatch(r"<!-- not run: .+ -->", block.before), block.line


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_line_is_parsed(words: list[str]) -> None:
    from distcel.cli.main import parser

    parser().parse_args(words)  # SystemExit, with the error in one line, where it is wrong


def test_the_commands_of_the_first_page_are_among_those_that_are_parsed() -> None:
    first = [parameter.values[0] for parameter in COMMANDS if "README.md" in str(parameter.id)]
    assert ["search"] in first
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("path", documents(), ids=_name)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        if path.name != "README.md":
            assert f"({path.name})" in index


def test_ci_finds_the_test_command_in_the_readme() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len([line for line in lines if line.endswith("-m pytest")]) == 1
    assert len(lines) <= 120


def test_the_accuracies_of_the_readme_are_those_of_the_results() -> None:
    pages = [*ROOT.glob("RESULTS.md"), *ROOT.glob("docs/results*.md"), *_GENERATED.glob("*.md")]
    results = "\n".join(path.read_text() for path in pages)
    accuracies = re.findall(r"\d+\.\d+ ± \d+\.\d+", (ROOT / "README.md").read_text())
    assert len(accuracies) >= 20
    assert [one for one in accuracies if one not in results] == []


def test_files_that_the_documents_name_exist() -> None:
    pattern = re.compile(r"`((?:distcel|search_spaces|launch|tests|benchmarks)/[\w/.-]*[\w/])`")
    pages = [path for path in PAGES if path.name not in {"CHANGELOG.md", "log.md"}]
    for path in pages:
        named = pattern.findall(path.read_text())
        assert [name for name in named if not (ROOT / name).exists()] == [], path


def test_the_tree_of_the_architecture_has_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (tree,) = [block.text for block in blocks(page) if block.text.startswith("distcel/\n")]
    named, room = set(), ""
    for line in tree.splitlines()[1:]:
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        room = room if indent == 4 else ""
        if name.endswith("/"):
            room = name
        else:
            named.add(f"{room}{name}")
    package = ROOT / "distcel"
    modules = {path.relative_to(package).as_posix() for path in package.glob("*.py")}
    modules |= {
        path.relative_to(package).as_posix()
        for path in package.glob("*/*.py")
        if path.name != "__init__.py"
    }
    missing, gone = modules - named, named - modules
    assert (sorted(missing), sorted(gone)) == ([], [])
