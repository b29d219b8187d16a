"""Explores what a static model has learned."""
