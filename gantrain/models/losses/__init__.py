"""Losses that models share, as pure functions of logits and features."""
