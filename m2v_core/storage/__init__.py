"""Models on disk: every layout ever published, read, checked, compressed, exported and written in one go."""
