"""Adapters of static models for other packages, one module each; docs/integrations.md shows how to use them.

Each module imports its package at the top, so import it only where that package is installed.
"""
