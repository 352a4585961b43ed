"""Papers by name: the experiments, what they are expected to reach, and what has been reached here."""
