"""distcel: distributed hyperparameter search for end-to-end combinatorial ensemble learning.

Kotary, Di Vito, Fioretto, "Differentiable Model Selection for Ensemble Learning", IJCAI 2023.
Importing the package loads nothing heavy; import the module that you need.
"""
