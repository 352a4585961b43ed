"""Feature networks with weights from elsewhere, and descriptors that need none."""
