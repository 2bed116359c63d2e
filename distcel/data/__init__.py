"""From disk to splits: readers of the layouts people have, decoded images, seeded splits, subsets.

It imports from `storage` and `experiment` alone, and needs no Ray, and torch only for torchvision's
CIFAR-10 batches.
"""
