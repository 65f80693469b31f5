"""``python -m p3m_edge``: the same as the ``p3m-edge`` command."""

import sys

from p3m_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
