"""Coming from other tools: their commands in the terms of gantrain."""
