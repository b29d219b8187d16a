"""Search in what `m2v encode` wrote, by meaning.

`stored` finds the vectors and the rows they stand in; `engines` holds what is approximate; `index` builds an index
beside the vectors, and `record` knows whether it still is one of them; `searching` answers.
"""
