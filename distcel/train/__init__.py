"""How networks are trained and what a training leaves: base learners, cache, selection nets.

It imports from `execute`, `data`, `core` and the rooms below them, and needs no Ray.
"""
