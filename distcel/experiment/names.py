"""Names that come from file systems, as logs, reports and terminals can show them."""

from __future__ import annotations

import unicodedata

_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}  # controls, surrogates, separators of lines and of paragraphs
_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # the text's direction


def printable(text: str) -> str:
    """The text with a Python escape in place of each character that would act on a terminal.

    These are control characters, line breaks and marks that turn the direction of writing. All
    others stay, such as letters, accents and emojis with their joiners.
    """
    return "".join(_escape(c) if _acts(c) else c for c in text)


def _acts(c: str) -> bool:
    return unicodedata.category(c) in _UNSAFE or unicodedata.bidirectional(c) in _TURNING


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")
