"""What is measured on the test split, as plain dicts for `results.json`.

Imports from `rules` and the rooms below it alone.
"""
