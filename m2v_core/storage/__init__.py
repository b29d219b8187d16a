"""Models on disk: reading every published layout, validating, compressing, exporting, and atomic writes."""
