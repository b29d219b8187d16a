"""The teacher: locating it, loading it without running untrusted code, and computing embeddings."""
