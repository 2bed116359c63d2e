"""The checked options of a launch, and the durable search: trials, their records, the refit.

This room imports from `train` and the rooms below it. Only `tune`, `recorder` and `ray_patch`
import Ray Tune.
"""
