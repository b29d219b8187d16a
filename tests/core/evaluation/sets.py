"""Small task files of every kind, and encoders with known results."""

from __future__ import annotations

import numpy as np

from m2v_core.evaluation.encoders import EncoderFacts

WORDS = ["sea", "shore", "river", "lake", "boat", "fish", "bread", "butter"]
WORDS += ["cheese", "apple", "pear", "plum", "red", "green", "blue", "pink"]
SETS = {
    "sts/tiny.tsv": "".join(f"{n % 6}\t{WORDS[n]} and {WORDS[n + 1]}\t{WORDS[n + 2]}\n" for n in range(12)),
    "wordsim/words.tsv": "".join(f"{n * 0.5}\t{WORDS[n]}\t{WORDS[n + 3]}\n" for n in range(10)),
    "classification/kinds/train.tsv": "".join(f"{'wet' if n < 6 else 'dry'}\tthe {WORDS[n]}\n" for n in range(12)),
    "classification/kinds/test.tsv": "".join(f"{'wet' if n < 6 else 'dry'}\ta {WORDS[n]}\n" for n in range(12)),
    "clustering/groups.tsv": "".join(f"{n // 6}\t{WORDS[n]}\n" for n in range(12)),
    "pairs/alike.tsv": "".join(
        f"{n % 3 == 0:d}\tthe {WORDS[n]}\t{WORDS[n]} {WORDS[(n + n % 3) % 16]}\n" for n in range(14)
    ),
    "reranking/order.tsv": "".join(
        f"what is {WORDS[n]}\t{(n + m) % 3 == 0:d}\tabout {WORDS[m]} {WORDS[n]}\n" for n in range(4) for m in range(6)
    )
    + "all right\t1\tbread\n",
    "retrieval/search/corpus.tsv": "".join(f"d{n}\tabout {word} {word}\n" for n, word in enumerate(WORDS)),
    "retrieval/search/queries.tsv": "".join(f"q{n}\twhat is {WORDS[n]}\n" for n in range(6)),
    "retrieval/search/qrels.tsv": "".join(f"q{n}\td{n}\t2\nq{n}\td{n + 1}\t1\nq{n}\td9\t0\n" for n in range(5)),
    "summarization/news.tsv": "".join(
        f"{n % 2}\t{(n * 5) % 7}\t{WORDS[n]} and {WORDS[n + 2]}\t{WORDS[n % 2]} boat\t{WORDS[n % 2 + 4]} bread\n"
        for n in range(10)
    )
    + "flat\t3\tsea\tlake\n",
    "pearl/similarity/phrases.tsv": "1\tred apple\tgreen apple\n2\tblue sea\tblue lake\n5\tpink fish\tpink boat\n",
    "pearl/choice/turns.tsv": "sea boat\tboat\tcheese\tpear\nred plum\tplum\tshore\n",
    "pearl/linking/names.tsv": "the sea\tsea\nthe lakes\tlake\na sea\tsea\n",
    "pearl/paraphrase/same.tsv": "".join(
        f"{'pos' if n % 2 else 'neg'}\t{WORDS[n % 12]} {WORDS[n % 7]}\t{WORDS[(n + n % 2) % 16]}\n" for n in range(40)
    ),
    "pearl/clustering/phrases2.tsv": "0\tred apple\n0\tred pear\n1\tblue sea\n1\tblue lake\n",
}


def write_sets(folder, **changes):
    """Write all task files; a change replaces the text of a file, named with two underscores for each slash."""
    for name, text in (SETS | {key.replace("__", "/") + ".tsv": value for key, value in changes.items()}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


class LetterEncoder:
    """Embeds texts as letter counts, so that different words have different embeddings."""

    def __init__(self, name="letters", role="static"):
        self.facts = EncoderFacts(name, role, 26, "cpu", 1, 1000)
        self.n_read = 0

    def encode(self, texts):
        self.n_read += len(texts)
        # Unequal weights, so that no two words are equally similar to a third.
        return np.array([[text.count(chr(97 + n)) * (1 + n / 7) for n in range(26)] for text in texts], np.float32)


class BrokenEncoder(LetterEncoder):
    """Returns embeddings modified by `change`."""

    def __init__(self, change):
        super().__init__("broken")
        self.change = change

    def encode(self, texts):
        return self.change(super().encode(texts))
