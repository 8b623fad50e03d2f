"""Measurements behind choices: what costs how much, as ratios."""
