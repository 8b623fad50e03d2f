"""Classifiers on cached features: what all heads share."""
