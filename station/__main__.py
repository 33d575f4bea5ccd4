"""`python -m station` is `station`."""

import sys

from station.cli import main

sys.exit(main())
