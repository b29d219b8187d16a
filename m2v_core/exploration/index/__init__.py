"""Semantic search in the output of `m2v encode`.

`stored` locates vectors and their rows; `engines` contains the approximate indexes; `building` writes an index next to
the vectors, and `record` determines whether it matches them; `searching` runs searches.
"""
