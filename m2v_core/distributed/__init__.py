"""Texts in many files, or in another engine's tables, to embeddings.

`batches` is the callable for any engine that hands over Arrow tables. `run` has a folder of files made: `shards`
encodes one file, and either `processes` or `ray_engine` decides where. `vocabulary` has a huge vocabulary read on Ray.
"""
