"""Encodes texts in many files, or in tables of another engine.

`batches` is a callable for any engine with Arrow tables. `run` encodes many files into a folder: `shards` encodes one
file, in processes managed by `processes` or `ray_engine`. `vocabulary` encodes a huge vocabulary on Ray.
"""
