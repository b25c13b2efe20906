"""``python -m pageshare``: the command line."""

import sys

from pageshare.commands import main

sys.exit(main())
