"""``python -m iclora``: the command line."""

from __future__ import annotations

from iclora.cli import main

if __name__ == "__main__":
    main()
