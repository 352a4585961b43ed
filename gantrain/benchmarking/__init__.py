"""Measurement of training steps: their speed, memory and operations."""
