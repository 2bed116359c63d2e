"""Measurements on the test split, as plain dicts for `results.json`.

This room imports from `rules` and the rooms below it.
"""
