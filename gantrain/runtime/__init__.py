"""Processes, signals, locks, files and seeds: what a run stands on. Nothing here knows of GANs or images."""
