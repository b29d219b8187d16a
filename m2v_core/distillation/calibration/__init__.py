"""Calibration: fitting the table to what the teacher says of whole texts."""
