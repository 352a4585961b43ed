"""Sweeps of many runs, and their comparison."""
