"""Runs on several machines: what their launchers set, and whether the others are still there."""
