"""`python -m antibackdoor`."""

import sys

from antibackdoor.cli import main

sys.exit(main())
