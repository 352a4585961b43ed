"""Configuration files: YAML only. Importable so that a wheel carries them."""
