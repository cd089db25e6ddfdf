# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""``python -m vuser``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
