"""The ensemble to take away: written at a run's end, loaded and used for prediction elsewhere.

It needs no Ray, no MLflow and no run directory. This room may import core, data (to
decode image files), storage and experiment.
"""
