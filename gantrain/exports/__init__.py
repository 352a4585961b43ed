"""Trained models in the formats of other programs: one module per format, each of which checks what it has written."""
