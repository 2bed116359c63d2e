"""The shipped search spaces, one file a data set: recipes, search space, and trial 0.

Each module exports PRESETS, a mapping from `smoke`, `quick` and `paper` to an Experiment. Importing
this package loads none of them; `distcel.experiment.loading.load_experiment` does.
"""
