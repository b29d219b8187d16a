"""Reads tasks from plain folders of tab-separated text files in UTF-8.

    sts/NAME.tsv                      score, text, text
    wordsim/NAME.tsv                  score, word, word
    classification/NAME/train.tsv     label, text       and test.tsv next to it
    clustering/NAME.tsv               label, text
    pairs/NAME.tsv                    1 or 0, text, text
    reranking/NAME.tsv                query, 1 or 0, text
    retrieval/NAME/corpus.tsv         id, text          and queries.tsv next to it,
    retrieval/NAME/qrels.tsv          query's id, text's id, relevance (more than 0)
    summarization/NAME.tsv            id of the source, score, summary, good summary, optionally more of these
    pearl/similarity/NAME.tsv         score, phrase, phrase
    pearl/choice/NAME.tsv             phrase, right answer, wrong answer, optionally more of these
    pearl/linking/NAME.tsv            phrase, its name; all names in the file are candidates
    pearl/clustering/NAME.tsv         label, phrase
    pearl/paraphrase/NAME.tsv         pos or neg, phrase, phrase (PPDB and PPDB filtered)

Files have no header; blank lines are skipped. The five kinds of `pearl` are those of the phrase benchmark PEARL.

Source: https://aclanthology.org/2024.findings-eacl.66/ (PEARL)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, NotFoundError
from m2v_core.evaluation.tasks import (
    MIN_PAIRS_PER_LABEL,
    ClassificationTask,
    ClusteringTask,
    Group,
    PairClassificationTask,
    PairTask,
    ParaphraseTask,
    RankingTask,
    SummarizationTask,
    Task,
    with_distinct_names,
)
from m2v_core.storage.text_files import log_warnings, read_text

Loader = Callable[[str, Group, Path], Task]


def read_tasks(folder: str | Path, names: Sequence[str] = ()) -> tuple[Task, ...]:
    """Read the tasks in a folder, in the order of the module's table and by name.

    Args:
        folder: A folder with the layout above.
        names: Which tasks: `"STS13"`, a kind such as `"wordsim"`, or both as `"sts/STS13"`, ignoring case; empty for
            all.

    Raises:
        NotFoundError: No such folder.
        InputError: There is no task or none with such a name, or a file is malformed, empty or can't be scored.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise NotFoundError(f"Folder not found: {folder}. Pass one with tasks in sts/, wordsim/, classification/, ...")
    found = list(_find(folder))
    if not found:
        kinds = ", ".join(f"{kind}/" for kind in KIND_FOLDERS)
        raise InputError(f"{folder} contains no tasks. Put them into {kinds}.")
    chosen = [entry for entry in found if not names]
    for name in names:
        wanted = name.strip().lower().rstrip("/")
        matching = [
            (kind, path)
            for kind, path in found
            if wanted in (path.stem.lower(), kind, kind.split("/")[0], f"{kind}/{path.stem.lower()}")
        ]
        if not matching:
            there = ", ".join(path.stem for _, path in found)
            raise InputError(f"There is no task {name.strip()!r} in {folder}. Available: {there}.")
        chosen += [entry for entry in matching if entry not in chosen]
    return with_distinct_names([_KINDS[kind][0](path.stem, _KINDS[kind][1], path) for kind, path in chosen])


def _find(folder: Path) -> Iterator[tuple[str, Path]]:
    for kind, (loader, _) in _KINDS.items():
        for path in sorted((folder / kind).glob("*")):
            if path.name.startswith("."):  # macOS creates such hidden companion files
                continue
            if path.is_dir() if loader in (_classification, _retrieval) else path.suffix == ".tsv":
                yield kind, path


def placed_texts(*lists: Iterable[str]) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """All distinct texts of some lists, and for each list the (n,) indices of its texts among them."""
    places: dict[str, int] = {}
    found = [np.array([places.setdefault(text, len(places)) for text in texts], np.int64) for texts in lists]
    return tuple(places), found


def _pairs(name: str, group: Group, path: Path) -> Task:
    rows = [(_number(score, path, n), *pair) for n, (score, *pair) in _lines(path, ("score", "text", "text"))]
    scores, left, right = zip(*rows, strict=True)
    if len(set(scores)) < 2:
        raise InputError(
            f"All {len(scores):,} scores in {path} are {scores[0]:g}. A correlation needs different scores; "
            "check whether the first column contains the scores."
        )
    correlation: Literal["spearman", "pearson"] = "pearson" if group == "PEARL" else "spearman"
    texts, places = placed_texts(left, right)
    return PairTask(name, group, texts, places[0], places[1], np.array(scores), correlation)


def _classification(name: str, group: Group, path: Path) -> Task:
    (train_labels, train_texts), (test_labels, test_texts) = (
        _labeled(path / f"{part}.tsv") for part in ("train", "test")
    )
    _check_kinds(train_labels, path / "train.tsv")
    texts, (train, test) = placed_texts(train_texts, test_texts)
    return ClassificationTask(name, group, texts, train, train_labels, test, test_labels)


def _clustering(name: str, group: Group, path: Path) -> Task:
    labels, read = _labeled(path)
    _check_kinds(labels, path)
    texts, (items,) = placed_texts(read)
    return ClusteringTask(name, group, texts, items, labels)


def _retrieval(name: str, group: Group, path: Path) -> Task:
    corpus, queries = (_by_id(path / f"{part}.tsv") for part in ("corpus", "queries"))
    document_numbers = {identifier: place for place, identifier in enumerate(corpus)}
    relevance: dict[str, dict[int, float]] = {}
    file = path / "qrels.tsv"
    for number, (query, document, value) in _lines(file, ("query's id", "text's id", "relevance")):
        for identifier, known, where in ((query, queries, "queries.tsv"), (document, corpus, "corpus.tsv")):
            if identifier not in known:
                raise InputError(f"{file}, line {number:,}: {where} has no id {identifier!r}.")
        if (degree := _number(value, file, number)) > 0:
            relevance.setdefault(query, {})[document_numbers[document]] = degree
    if not relevance:
        raise InputError(f"{file} has no relevant text for any query; at least one line needs a relevance above 0.")
    texts, (asked, documents) = placed_texts((queries[query] for query in relevance), corpus.values())
    return RankingTask(name, group, texts, asked, documents, tuple(relevance.values()))


def _pair_classification(name: str, group: Group, path: Path) -> Task:
    rows = [(_label(label, path, n), *pair) for n, (label, *pair) in _lines(path, ("1 or 0", "text", "text"))]
    labels, left, right = zip(*rows, strict=True)
    if len(set(labels)) < 2:
        raise InputError(f"All pairs in {path} have the label {labels[0]:d}. Pairs with both labels are needed.")
    texts, places = placed_texts(left, right)
    return PairClassificationTask(name, group, texts, places[0], places[1], np.array(labels))


def _reranking(name: str, group: Group, path: Path) -> Task:
    offered: dict[str, list[tuple[bool, str]]] = {}
    for number, (query, label, text) in _lines(path, ("query", "1 or 0", "text")):
        offered.setdefault(query, []).append((_label(label, path, number), text))
    # Queries whose candidates are all right, or all wrong, can't be ranked.
    kept = {query: rows for query, rows in offered.items() if len({is_right for is_right, _ in rows}) == 2}
    if not kept:
        raise InputError(
            f"No query in {path} has both relevant (1) and irrelevant (0) texts, so there is nothing to rank. Add both."
        )
    documents: list[str] = []
    candidates: list[NDArray[np.int64]] = []
    relevance: list[dict[int, float]] = []
    for rows in kept.values():
        numbers = np.arange(len(documents), len(documents) + len(rows))
        documents += [text for _, text in rows]
        candidates.append(numbers)
        relevance.append({int(number): 1.0 for number, (is_right, _) in zip(numbers, rows, strict=True) if is_right})
    texts, places = placed_texts(kept, documents)
    return RankingTask(name, group, texts, places[0], places[1], tuple(relevance), None, tuple(candidates))


def _summarization(name: str, group: Group, path: Path) -> Task:
    fields = ("id", "score", "summary", "good summary")
    rows = [(number, row) for number, row in _lines(path, fields, has_more=True)]
    scores = np.array([_number(score, path, number) for number, (_, score, *_) in rows])
    by_id: dict[str, list[int]] = {}
    for place, (_, (identifier, *_)) in enumerate(rows):
        by_id.setdefault(identifier, []).append(place)
    groups = tuple(np.array(places) for places in by_id.values() if len(set(scores[places])) > 1)
    if not groups:
        raise InputError(f"{path} has no two summaries of one id with different scores, so there is nothing to rank.")
    summaries = [row[2] for _, row in rows]
    references = [row[3:] for _, row in rows]
    texts, (placed, of_references) = placed_texts(summaries, (text for row in references for text in row))
    ends = np.cumsum([len(row) for row in references])[:-1]
    return SummarizationTask(name, group, texts, placed, scores, tuple(np.split(of_references, ends)), groups)


def _choice(name: str, group: Group, path: Path) -> Task:
    queries: list[str] = []
    documents: list[str] = []
    candidates: list[NDArray[np.int64]] = []
    for _, (phrase, *answers) in _lines(path, ("phrase", "right answer", "wrong answer"), has_more=True):
        queries.append(phrase)
        candidates.append(np.arange(len(documents), len(documents) + len(answers)))
        documents += answers
    relevance = tuple({int(offered[0]): 1.0} for offered in candidates)
    texts, places = placed_texts(queries, documents)
    return RankingTask(name, group, texts, places[0], places[1], relevance, 1, tuple(candidates))


def _linking(name: str, group: Group, path: Path) -> Task:
    pairs = [pair for _, pair in _lines(path, ("phrase", "name"))]
    names = {right: place for place, right in enumerate(dict.fromkeys(right for _, right in pairs))}
    if len(names) < 2:
        raise InputError(f"{path} has only one name, {pairs[0][1]!r}, so there is nothing to choose from.")
    texts, (phrases, choice) = placed_texts((phrase for phrase, _ in pairs), names)
    return RankingTask(name, group, texts, phrases, choice, tuple({names[right]: 1.0} for _, right in pairs), 1)


def _paraphrases(name: str, group: Group, path: Path) -> Task:
    kinds: list[bool] = []
    left, right = [], []
    for number, (kind, *pair) in _lines(path, ("pos or neg", "phrase", "phrase")):
        if kind not in ("pos", "neg"):
            raise InputError(f"{path}, line {number:,} has {kind[:40]!r} instead of pos or neg.")
        kinds.append(kind == "pos")
        left.append(pair[0])
        right.append(pair[1])
    if (fewest := min(sum(kinds), len(kinds) - sum(kinds))) < MIN_PAIRS_PER_LABEL:
        raise InputError(
            f"{path} has {fewest} pairs with one label. Training and testing need at least "
            f"{MIN_PAIRS_PER_LABEL} pos and {MIN_PAIRS_PER_LABEL} neg."
        )
    texts, places = placed_texts(left, right)
    return ParaphraseTask(name, group, texts, places[0], places[1], np.array(kinds))


_KINDS: dict[str, tuple[Loader, Group]] = {
    "sts": (_pairs, "STS"),
    "wordsim": (_pairs, "WordSim"),
    "classification": (_classification, "Class"),
    "clustering": (_clustering, "Clust"),
    "pairs": (_pair_classification, "PairClass"),
    "reranking": (_reranking, "Rank"),
    "retrieval": (_retrieval, "Ret"),
    "summarization": (_summarization, "Sum"),
    "pearl/similarity": (_pairs, "PEARL"),
    "pearl/choice": (_choice, "PEARL"),
    "pearl/linking": (_linking, "PEARL"),
    "pearl/clustering": (_clustering, "PEARL"),
    "pearl/paraphrase": (_paraphrases, "PEARL"),
}

LAYOUT = (
    ("sts/NAME.tsv", "score, text, text"),
    ("wordsim/NAME.tsv", "score, word, word"),
    ("classification/NAME/train.tsv", "label, text; and test.tsv next to it"),
    ("clustering/NAME.tsv", "label, text"),
    ("pairs/NAME.tsv", "1 or 0, text, text"),
    ("reranking/NAME.tsv", "query, 1 or 0, text"),
    ("retrieval/NAME/corpus.tsv", "id, text; and queries.tsv next to it"),
    ("retrieval/NAME/qrels.tsv", "query's id, text's id, relevance"),
    ("summarization/NAME.tsv", "id of the source, score, summary, good summary, optionally more of these"),
    ("pearl/similarity/NAME.tsv", "score, phrase, phrase"),
    ("pearl/choice/NAME.tsv", "phrase, right answer, wrong answer, optionally more of these"),
    ("pearl/linking/NAME.tsv", "phrase, its name"),
    ("pearl/clustering/NAME.tsv", "label, phrase"),
    ("pearl/paraphrase/NAME.tsv", "pos or neg, phrase, phrase"),
)
"""The files of a folder of tasks, and the fields of their lines."""
KIND_FOLDERS = tuple(_KINDS)
"""Subfolders of the tasks in a folder."""


def _lines(path: Path, fields: tuple[str, ...], has_more: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield each line's number and non-blank fields; at least one line."""
    expected = f"{', '.join(fields)}{' and optionally more' if has_more else ''}, separated by tabs"
    if not path.is_file():
        raise InputError(f"File not found: {path}. Its lines must be: {expected}.")
    decoded = read_text(path)
    log_warnings(decoded.warning)
    is_empty = True
    for number, line in enumerate(decoded.text.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line:
            continue
        values = line.split("\t")
        if len(values) < len(fields) or (len(values) > len(fields) and not has_more):
            count = "1 field" if len(values) == 1 else f"{len(values)} fields"
            raise InputError(f"{path}, line {number:,} has {count}; expected: {expected}.")
        if blank := [place for place, value in enumerate(values) if not value.strip()]:
            what = fields[min(blank[0], len(fields) - 1)]
            raise InputError(f"{path}, line {number:,}: field {blank[0] + 1} ({what}) is blank; expected: {expected}.")
        is_empty = False
        yield number, values
    if is_empty:
        raise InputError(f"{path} is empty. Its lines must be: {expected}.")


def _number(text: str, path: Path, number: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {number:,} has {text[:40]!r} instead of a number.")
    return value


def _label(text: str, path: Path, number: int) -> bool:
    if text not in ("0", "1"):
        raise InputError(f"{path}, line {number:,} has {text[:40]!r} instead of 1 or 0.")
    return text == "1"


def _labeled(path: Path) -> tuple[tuple[str, ...], list[str]]:
    rows = [row for _, row in _lines(path, ("label", "text"))]
    return tuple(label for label, _ in rows), [text for _, text in rows]


def _by_id(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, (identifier, text) in _lines(path, ("id", "text")):
        if identifier in texts:
            raise InputError(f"{path}, line {number:,}: duplicate id {identifier!r}.")
        texts[identifier] = text
    return texts


def _check_kinds(labels: tuple[str, ...], path: Path) -> None:
    if len(set(labels)) < 2:
        raise InputError(
            f"Every line of {path} has the label {labels[0]!r}. At least two labels are needed; "
            "check whether the first column contains the labels."
        )
