"""Images: found, decoded, converted, transformed and cached."""
