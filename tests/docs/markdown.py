"""Reads Markdown as far as the tests of the documents need it: fenced blocks, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_IGNORED = {".venv", "runs", "build", "dist", "node_modules"}
_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*(.*)$")
# [text](target "title"), an image alike; the text may hold an image, whose link is found as well.
_LINK = re.compile(r"\]\(\s*<?([^\s)>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")
_HTML_ANCHOR = re.compile(r"<\w+[^>]*?\b(?:id|name)=\"([^\"]+)\"")
_SCRIPTS = {"launch/cluster.py": "search", "launch/reproduce.py": "reproduce"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        info: the rest of the fence's line: `python`, `python no-run`, `console`, ...
        text: its lines.
        line: of the file where the text begins, counted from 1.
        before: the last line above the fence that is not empty.
    """

    info: str
    text: str
    line: int
    before: str


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    paths = (path for path in ROOT.rglob("*.md") if path.is_file())
    return sorted(path for path in paths if not _is_ignored(path.relative_to(ROOT)))


def _is_ignored(path: Path) -> bool:
    return any(part in _IGNORED or part.startswith(".") for part in path.parts)


def blocks(text: str) -> list[Block]:
    """The fenced blocks in their order."""
    found, before, lines = [], "", text.splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number].strip())
        if opening is None:
            before = lines[number].strip() or before
            number += 1
            continue
        start = number + 1
        number = start
        while number < len(lines) and lines[number].strip() != opening[1]:
            number += 1
        body = "\n".join(lines[start:number])
        found.append(Block(opening[2].strip(), body, start + 1, before))
        number += 1
    return found


def prose(text: str) -> str:
    """The text without fenced blocks and code spans."""
    kept, fence = [], ""
    for line in text.splitlines():
        opening = _FENCE.match(line.strip())
        if opening and not fence:
            fence = opening[1]
        elif fence and line.strip() == fence:
            fence = ""
        elif not fence:
            kept.append(line)
    return re.sub(r"(`+)[^`].*?\1", "code", "\n".join(kept))


def links(text: str) -> list[str]:
    """The targets of all links and images."""
    words = prose(text)
    return [*_LINK.findall(words), *_HTML_LINK.findall(words)]


def anchors(text: str) -> set[str]:
    """What a link to this document may have after the `#`, as GitHub makes it of the headings."""
    found: dict[str, int] = {}
    names = set(_HTML_ANCHOR.findall(text))
    fenced = {line for block in blocks(text) for line in block.text.splitlines()}
    for line in text.splitlines():
        heading = re.match(r"#{1,6}\s+(.+?)\s*#*$", line)
        if heading and line not in fenced:
            slug = _slug(heading[1])
            count = found.get(slug, 0)
            found[slug] = count + 1
            names.add(f"{slug}-{count}" if count else slug)
    return names


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def broken_links(path: Path, root: Path = ROOT) -> list[str]:
    """The relative links of a document that lead to no file, or to no anchor of it."""
    broken = []
    for target in links(path.read_text()):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        inside = file.is_relative_to(root)
        known = inside and file.exists()
        if known and anchor:
            known = file.suffix == ".md" and anchor in anchors(file.read_text())
        if not known:
            broken.append(target)
    return broken


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of distcel's commands in `console`, `bash` and `sh` blocks.

    `python launch/cluster.py` and `python launch/reproduce.py`, of any Python, are `distcel search`
    and `distcel reproduce`. Lines that begin with a backslash's line are joined to it.
    """
    for block in blocks(text):
        if block.info not in {"console", "bash", "sh"}:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            for command in line.removeprefix("$ ").split("&&"):
                words = shlex.split(command, comments=True)
                if words and Path(words[0]).name == "distcel":
                    yield words[1:]
                elif len(words) > 1 and _is_script(words):
                    yield [_SCRIPTS[words[1]], *words[2:]]


def _is_script(words: list[str]) -> bool:
    return Path(words[0]).name.startswith("python") and words[1] in _SCRIPTS
