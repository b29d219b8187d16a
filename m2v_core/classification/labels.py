"""Validates labeled texts, and holds out some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import iterable_items
from m2v_core.errors import InputError

Label = str | int
_SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """The labels of some texts.

    Attributes:
        classes: (n_labels,) text or int64, ascending.
        members: (n_texts, n_labels) bool: which text has which label.
        is_multi_label: Whether a text can have any number of labels instead of exactly one.
    """

    classes: NDArray[np.str_] | NDArray[np.int64]
    members: NDArray[np.bool_]
    is_multi_label: bool


def checked_training_texts(texts: list[str]) -> list[str]:
    """Return the texts if none is empty.

    Raises:
        InputError: There are none, or some are empty.
    """
    if not texts:
        raise InputError("There are no training texts. Pass at least two for each label.")
    if empty := [number for number, text in enumerate(texts) if not text or text.isspace()]:
        raise InputError(
            f"{len(empty):,} of the {len(texts):,} texts are empty, first text {empty[0]} (counting from 0). Remove "
            "them and their labels."
        )
    return texts


def label_lists(labels: Iterable[Any], n_texts: int) -> tuple[list[list[Label]], bool]:
    """Return each text's labels, and whether they were passed as lists.

    Args:
        labels: One label per text, or a list of labels per text; text or whole numbers.
        n_texts: Expected number.

    Raises:
        InputError: The number differs, or a label is not valid; names the first.
    """
    given = [_plain(label) for label in iterable_items(labels, "a list of labels, one for each text")]
    if len(given) != n_texts:
        raise InputError(
            f"There are {n_texts:,} texts and {len(given):,} labels. Pass one label (or list of labels) for each text."
        )
    is_list = [isinstance(label, (list, tuple, set, frozenset)) for label in given]
    if any(is_list) and not all(is_list):
        number = is_list.index(not is_list[0])
        raise InputError(
            f"Labels must be all single or all lists: number 0 is {given[0]!r}, number {number} is "
            f"{given[number]!r}. For several labels per text, pass a list for every text, such as ['a'] or []."
        )
    lists = [list(label) if several else [label] for label, several in zip(given, is_list, strict=True)]
    kind: type | None = None
    for number, names in enumerate(lists):
        for label in names:
            _check_label(label, number)
            kind = kind or type(label)
            if type(label) is not kind:
                raise InputError(
                    f"Labels must be all text or all whole numbers: label {label!r} of text number {number} is "
                    f"{type(label).__name__}, those before it {kind.__name__}. Convert them to one type."
                )
        if len(set(names)) < len(names):
            raise InputError(
                f"Text number {number} has a label twice: {names}. Pass each once; convert tables of zeros and ones to "
                "lists of the labels that are 1."
            )
    return lists, any(is_list)


def checked_labels(labels: Iterable[Any], n_texts: int) -> Labels:
    """Validate training labels, as passed to `label_lists`.

    Raises:
        InputError: There are fewer than two labels, or a label that only one or every text has.
    """
    lists, is_multi_label = label_lists(labels, n_texts)
    seen = sorted({label for names in lists for label in names}, key=lambda label: (label,))
    if not seen:
        raise InputError("No text has a label. Pass at least two different labels.")
    members = membership(lists, seen)
    if len(seen) == 1 and not is_multi_label:
        raise InputError(
            f"Every text has the label {seen[0]!r}. Add texts with another label: at least two are needed."
        )
    counts = members.sum(axis=0)
    if once := np.flatnonzero(counts == 1).tolist():
        shown = ", ".join(repr(seen[index]) for index in once[:_SHOWN]) + (", ..." if len(once) > _SHOWN else "")
        first = int(np.flatnonzero(members[:, once[0]])[0])
        raise InputError(
            f"Labels that only one text has: {shown} (the first at text number {first}, counting from 0). Each label "
            "needs at least two texts, one for training and one for validation: add texts, or remove these."
        )
    if full := np.flatnonzero(counts == len(members)).tolist():
        raise InputError(
            f"Every text has the label {seen[full[0]]!r}, so it can't be learned. Add texts without it, or remove the "
            "label."
        )
    return Labels(np.array(seen), members, is_multi_label)


def membership(lists: Sequence[Sequence[Label]], classes: Sequence[Label]) -> NDArray[np.bool_]:
    """(n_texts, n_labels) bool: which text has which label.

    Raises:
        InputError: A text has a label that is not in `classes`.
    """
    columns = {label: column for column, label in enumerate(classes)}
    members = np.zeros((len(lists), len(classes)), dtype=bool)
    for number, names in enumerate(lists):
        for label in names:
            if label not in columns:
                known = ", ".join(map(repr, list(columns)[:_SHOWN])) + (", ..." if len(columns) > _SHOWN else "")
                raise InputError(f"Text number {number} has the label {label!r}, which is not one of {known}.")
            members[number, columns[label]] = True
    return members


def held_out_split(members: NDArray[np.bool_], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split into training and held-out texts with about the same share of every label, rarest labels first.

    Args:
        members: (n_texts, n_labels) bool; every label must have two texts or more, and not all.
        share: Share of the texts to hold out, in (0, 1).
        seed: Random seed.

    Returns:
        Two ascending arrays of text indices, together all of them. Among the training texts, some but not all have
        each label.
    """
    random = np.random.default_rng(seed)
    is_held_out, is_open = np.zeros(len(members), dtype=bool), np.ones(len(members), dtype=bool)
    groups = [members[:, column] for column in np.argsort(members.sum(axis=0), kind="stable")]
    for group in [*groups, ~members.any(axis=1)]:
        n_wanted = int(np.clip(round(share * group.sum()), 1, max(group.sum() - 1, 0)))
        candidates = random.permutation(np.flatnonzero(group & is_open))
        is_held_out[candidates[: max(n_wanted - int((group & is_held_out).sum()), 0)]] = True
        is_open &= ~group
    for group in [*groups, *(~group for group in groups)]:
        if not (group & ~is_held_out).any():
            is_held_out[random.choice(np.flatnonzero(group))] = False
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _plain(label: Any) -> Any:
    """Convert a label from NumPy to a Python type."""
    return label.tolist() if isinstance(label, (np.generic, np.ndarray)) else label


def _check_label(label: Any, number: int) -> None:
    where = f"The label of text number {number} (counting from 0)"
    if label is None or (isinstance(label, float) and label != label):
        raise InputError(f"{where} is missing ({label}). Add a label, or remove the text.")
    if isinstance(label, bool) or not isinstance(label, (str, int)):
        raise InputError(f"{where} is {label!r}; labels must be text or whole numbers. Convert it first.")
    if isinstance(label, int):
        if not -(2**63) <= label < 2**63:
            raise InputError(f"{where} is {label}, which has more than 64 bits. Write it as text.")
    elif not label.strip() or "\0" in label:
        raise InputError(f"{where} is {label!r}; a label must have at least one visible character. Use another name.")
    else:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where} contains a lone surrogate, not a character: {label!r}. Correct it.") from None
