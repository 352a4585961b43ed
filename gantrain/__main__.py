"""``python -m gantrain`` is ``gantrain``."""

import sys

from gantrain.cli.main import main

sys.exit(main())
