"""``python -m steadygrad.cli``: the command line without its script."""

import sys

from steadygrad.cli import main

sys.exit(main())
