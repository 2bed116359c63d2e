"""A launch's choices, found valid, and the durable search: trials, their records, the refit.

It imports from `train` and the rooms below it; Ray Tune is used in `tune`, `recorder`, `ray_patch`.
"""
