"""Search in what `m2v encode` wrote, by meaning.

`stored` finds the vectors and the rows they stand in; `engines` holds what is approximate; `building` writes an index
beside the vectors, and `record` says whether it still is one of them; `searching` answers.
"""
