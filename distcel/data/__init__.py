"""From disk to splits: readers of the layouts people have, decoded images, seeded splits, subsets.

It imports from `core`, `storage` and `experiment`, and knows nothing of networks or training.
"""
