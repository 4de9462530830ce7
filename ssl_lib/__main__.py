"""`python -m ssl_lib` is `ssl-lib`."""

import sys

from ssl_lib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
