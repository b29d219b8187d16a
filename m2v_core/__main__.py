"""`python -m m2v_core` runs the `m2v` command."""

from m2v_core.cli import main

if __name__ == "__main__":  # a spawned worker imports it under another name
    main()
