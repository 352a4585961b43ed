"""The packages; all else is in setup.cfg, which can't add one of another folder to those that it finds."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["gantrain", "gantrain.*"]), "gantrain.configs"])
