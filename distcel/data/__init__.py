"""From disk to splits: readers of the layouts people have, decoded images, seeded splits, subsets.

This room imports from `storage` and `experiment`. It needs no Ray, and torch only for torchvision's
CIFAR-10 batches.
"""
