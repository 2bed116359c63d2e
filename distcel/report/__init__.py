"""Documents from `results.json` alone: tables, figures, reports, the pages of results.

This room imports from `storage.files` and `experiment`, and neither torch nor Ray.
"""
