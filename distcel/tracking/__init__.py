"""Experiment trackers, which are views of the records on disk; `track` starts them.

This room imports from `serve`, `search` and the rooms below them; only this room uses MLflow.
"""
