"""Executors of base learners, trained rules and the refit: on Ray's workers or in this process.

It imports from `storage` and `experiment`; Ray is imported in `cluster` and `ray_executor` alone.
"""
