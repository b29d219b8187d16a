"""The parts of `benchmarks/encode.py`: texts, encoders, models, measurements in worker processes, and the report."""
