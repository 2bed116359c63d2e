"""Durable files: written whole or not at all, with digests, locks and where they come from.

It imports from `experiment` alone.
"""
