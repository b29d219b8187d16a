"""From a file of texts to a file of embeddings, in memory that doesn't grow with either.

`readers` and `parquet` cut a file into blocks of rows, `writers` and `parquet` write blocks with their embeddings, and
`run` joins them.
"""
