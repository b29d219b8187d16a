"""Tests of M2V Studio."""
