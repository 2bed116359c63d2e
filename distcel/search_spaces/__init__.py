"""In a checkout, `distcel.search_spaces` is the folder search_spaces beside the package.

A wheel has that folder's own files here, and not this one: see package-dir in pyproject.toml.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "search_spaces")]
