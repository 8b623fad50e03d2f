"""Faults injected into every stage: kills, stops, full disks, read-only folders, clock jumps, runs side by side."""
