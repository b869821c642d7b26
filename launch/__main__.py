"""`python -m launch ...` is `intravid ...` from a bare checkout."""

import sys

from launch.cli import main

sys.exit(main())
