"""Encodes a file of texts into a file of embeddings, in constant memory.

`readers` and `parquet` read a file in blocks of rows, `writers` and `parquet` write blocks with their embeddings, and
`run` connects them.
"""
