"""The teacher: where it is, how it is loaded without trusting it, and what it makes of texts."""
