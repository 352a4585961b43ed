"""Configurations: the types and ranges of their values, settings, and names of runs."""
