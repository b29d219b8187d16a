"""Search in what `m2v encode` wrote, by meaning.

`stored` finds the vectors and the rows they stand in, `engines` holds what is approximate, `index` keeps an index beside
the vectors and knows whether it still is one of them, and `searching` answers.
"""
