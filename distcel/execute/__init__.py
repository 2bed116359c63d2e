"""Executors of base learners, trained rules and the refit: on Ray's workers or in this process.

This room imports from `storage` and `experiment`. Only `cluster`, `nodes` and the modules `ray_*`
import Ray.
"""
