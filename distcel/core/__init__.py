"""The paper's mathematics: knapsack layer, smart ensemble, networks and what they cost.

It imports from `experiment` alone and needs torch, safetensors and, for a ResNet18, torchvision.
"""
