"""What the app needs and the library does not: background jobs, kept models, warm teachers, the Space."""
