"""The compiled loops: find the chunks of a text, look them up, add the rows of their tokens; and fit these rows.

Each entry point takes whole numbers of 64 bits alone (addresses, sizes, flags) and returns one. Nothing here allocates,
raises, calls Python, holds a lock or starts a thread: callers give each of their threads a range of texts, and memory
to write to. Where that runs out a loop says how far it came, and is called again with more.
"""
