"""Experiment trackers, which are views of the records on disk; `track` is the way in.

It imports from `serve`, `search` and the rooms below them; MLflow is used here alone.
"""
