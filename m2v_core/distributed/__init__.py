"""Texts in many files, or in another engine's tables, to embeddings.

`batches` is the callable for any engine that hands over Arrow tables. `run` has a folder of files made: `inputs` finds
them, `manifest` remembers what is finished, `shards` encodes one file, and either `processes` or `ray_engine` decides
where that happens. `ray_engine` runs the reading of a huge vocabulary too, see `distillation.cluster`.
"""
