"""Calibration: fitting the table to the teacher's embeddings of whole texts."""
