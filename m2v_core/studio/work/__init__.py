"""What the jobs do, a module for each kind of work."""
