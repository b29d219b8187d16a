"""App-only code: background jobs, the model library, teachers for queries, and the Space."""
