"""Documents from `results.json` alone: tables, figures, reports, the pages of results.

Imports from `storage.files` and `experiment`, and neither torch nor Ray.
"""
