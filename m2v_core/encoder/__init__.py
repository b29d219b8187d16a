"""Encodes texts as vectors."""
