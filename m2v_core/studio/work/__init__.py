"""Functions of the jobs, one module per kind."""
