"""The ``gantrain`` command: one sub-command, one function. The only room that knows Hydra."""
