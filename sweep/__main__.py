"""`python -m sweep`."""

from sweep.command import main

main()
