"""Executors of base learners, trained rules and the refit: on Ray's workers or in this process.

This room imports from `storage` and `experiment`. Only `cluster` and `ray_executor` import Ray.
"""
