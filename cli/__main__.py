"""``python -m synreal_cli``: the ``synreal`` command where it is not on the path."""

from .app import main

main()
