"""Exploration of a static model: neighbors, topics, maps and search."""
