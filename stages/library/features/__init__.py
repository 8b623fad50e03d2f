"""Cached features."""
