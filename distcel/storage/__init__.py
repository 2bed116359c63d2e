"""Durable files, written whole or not at all; their digests, locks and provenance.

This room imports from `experiment` alone.
"""
