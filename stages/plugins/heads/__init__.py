"""Heads, a folder each: head.py and its own solver."""
