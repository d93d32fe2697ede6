"""``python -m pertscale``."""

from pertscale.cli import main

main()
