"""`python -m m2v_core` is the `m2v` command."""

from m2v_core.cli import main

main()
