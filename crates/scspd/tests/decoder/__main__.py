"""`python3 crates/scspd/tests/decoder PCAP...`: see `check.py`."""

import sys

from check import main

sys.exit(main())
