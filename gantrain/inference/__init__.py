"""Trained models, loaded and put to use: samples and translated images."""
