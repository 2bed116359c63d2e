"""The ensemble to take away: written at a run's end, loaded and asked anywhere else.

It needs no Ray, no MLflow and no run directory. It may import core, data (to decode image files),
storage and experiment.
"""
