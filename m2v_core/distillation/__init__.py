"""Distillation of teachers into static models."""
