"""Training steps that are captured once as a CUDA graph and then replayed."""
