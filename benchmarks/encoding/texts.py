"""The corpora, from the public evaluation data next to the checkout."""

from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).parents[3] / "shared" / "eval"
SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank."


def news() -> list[str]:
    """Return 7,600 news texts of about 240 characters."""
    return [text for part in ("train", "test") for text in _labeled("AGNews", part)]


def documents() -> list[str]:
    """Return 950 documents of about 3,800 characters, each of 16 news texts."""
    texts = news()
    return [" ".join(texts[i : i + 16]) for i in range(0, len(texts), 8)]


def short() -> list[str]:
    """Return the sentences of STS12, STS13, STS14 and SST2 that have at most 100 characters, each once."""
    texts = [text for part in ("train", "test") for text in _labeled("SST2", part)]
    for path in sorted((DATA / "sts").glob("*.tsv")):
        texts += [text for line in path.read_text("utf-8").splitlines() for text in line.split("\t")[1:]]
    return [text for text in dict.fromkeys(texts) if len(text) <= 100]


def sentences() -> list[str]:
    """Return the 73,273 sentences of the Brown corpus and WikiText-2."""
    return (DATA / "corpus" / "sentences.txt").read_text("utf-8").splitlines()


def _labeled(name: str, part: str) -> list[str]:
    lines = (DATA / "classification" / name / f"{part}.tsv").read_text("utf-8").splitlines()
    return [line.split("\t", 1)[1] for line in lines]


CORPORA: dict[str, Callable[[], list[str]]] = {
    "news": news,
    "documents": documents,
    "short": short,
    "sentences": sentences,
}
