"""One executor for every kind of training: jobs on Ray's workers or in this process.

It imports from `storage` and `experiment`; Ray is imported in `cluster` and `ray_executor` alone.
"""
