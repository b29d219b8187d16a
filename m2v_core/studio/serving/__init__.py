"""Teachers kept in memory for queries."""
