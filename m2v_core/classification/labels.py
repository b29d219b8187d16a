"""Labelled texts, checked once at the border, and how some of them are held out."""

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
        is_multi_label: Whether a text has any number of labels, and not exactly one.
    """

    classes: NDArray[np.str_] | NDArray[np.int64]
    members: NDArray[np.bool_]
    is_multi_label: bool


def checked_training_texts(texts: list[str]) -> list[str]:
    """The texts, if there is something to learn from each.

    Raises:
        InputError: There are none, or some are empty.
    """
    if not texts:
        raise InputError("There are no texts to learn from. Pass at least two for each label.")
    if empty := [number for number, text in enumerate(texts) if not text or text.isspace()]:
        raise InputError(
            f"{len(empty):,} of the {len(texts):,} texts are empty, the first being number {empty[0]} (counting from "
            "0). Leave them out, with their labels."
        )
    return texts


def label_lists(labels: Iterable[Any], n_texts: int) -> tuple[list[list[Label]], bool]:
    """Each text's labels, and whether they were given as lists.

    Args:
        labels: One label a text, or a list of labels a text; text or whole numbers.
        n_texts: How many there must be.

    Raises:
        InputError: Another number of them, or one that can't be a label; names the first.
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
            f"Labels are single ones or lists of them, but not both: number 0 is {given[0]!r}, number {number} is "
            f"{given[number]!r}. For several labels a text, pass a list for every text, such as ['a'] or []."
        )
    lists = [list(label) if several else [label] for label, several in zip(given, is_list, strict=True)]
    kind: type | None = None
    for number, names in enumerate(lists):
        for label in names:
            _check_label(label, number)
            kind = kind or type(label)
            if type(label) is not kind:
                raise InputError(
                    f"Labels are text or whole numbers, but not both: label {label!r} of text number {number} is "
                    f"{type(label).__name__}, those before it {kind.__name__}. Convert them to one kind."
                )
        if len(set(names)) < len(names):
            raise InputError(
                f"Text number {number} has a label twice: {names}. Pass each once; a table of zeros and ones is to be "
                "given as lists of the labels that are 1."
            )
    return lists, any(is_list)


def checked_labels(labels: Iterable[Any], n_texts: int) -> Labels:
    """The labels to learn, given as for `label_lists`.

    Raises:
        InputError: They can't be learnt: fewer than two of them, one that is seen once, one that every text has.
    """
    lists, is_multi_label = label_lists(labels, n_texts)
    seen = sorted({label for names in lists for label in names}, key=lambda label: (label,))
    if not seen:
        raise InputError("No text has a label. Give some of them at least two different ones.")
    members = membership(lists, seen)
    if len(seen) == 1 and not is_multi_label:
        raise InputError(
            f"Every text has the label {seen[0]!r}. Add texts with another label: a classifier tells labels apart."
        )
    counts = members.sum(axis=0)
    if once := np.flatnonzero(counts == 1).tolist():
        shown = ", ".join(repr(seen[index]) for index in once[:_SHOWN]) + (", ..." if len(once) > _SHOWN else "")
        first = int(np.flatnonzero(members[:, once[0]])[0])
        raise InputError(
            f"Labels that only one text has: {shown} (the first at text number {first}, counting from 0). Each needs "
            "at least two, one to learn from and one to check on: add texts, or leave these out."
        )
    if full := np.flatnonzero(counts == len(members)).tolist():
        raise InputError(
            f"Every text has the label {seen[full[0]]!r}, so there is nothing to tell it from. Add texts without it, "
            "or leave the label out."
        )
    return Labels(np.array(seen), members, is_multi_label)


def membership(lists: Sequence[Sequence[Label]], classes: Sequence[Label]) -> NDArray[np.bool_]:
    """(n_texts, n_labels) bool: which text has which label.

    Raises:
        InputError: A text has a label that is none of `classes`.
    """
    columns = {label: column for column, label in enumerate(classes)}
    members = np.zeros((len(lists), len(classes)), dtype=bool)
    for number, names in enumerate(lists):
        for label in names:
            if label not in columns:
                known = ", ".join(map(repr, list(columns)[:_SHOWN])) + (", ..." if len(columns) > _SHOWN else "")
                raise InputError(f"Text number {number} has the label {label!r}, which is none of {known}.")
            members[number, columns[label]] = True
    return members


def held_out_split(members: NDArray[np.bool_], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The texts to learn from, and those held out: of every label about the same share, the rarest seen to first.

    Args:
        members: (n_texts, n_labels) bool; every label is had by two texts or more, and not by all.
        share: Of the texts to hold out, in (0, 1).
        seed: Which ones.

    Returns:
        Two ascending arrays of text numbers, together all of them. Among those to learn from, every label is had by
        some and not by all.
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
    """A label without its NumPy type."""
    return label.tolist() if isinstance(label, (np.generic, np.ndarray)) else label


def _check_label(label: Any, number: int) -> None:
    where = f"The label of text number {number} (counting from 0)"
    if label is None or (isinstance(label, float) and label != label):
        raise InputError(f"{where} is missing ({label}). Give it one, or leave the text out.")
    if isinstance(label, bool) or not isinstance(label, (str, int)):
        raise InputError(f"{where} is {label!r}; labels are text or whole numbers. Convert it first.")
    if isinstance(label, int):
        if not -(2**63) <= label < 2**63:
            raise InputError(f"{where} is {label}, which has more than 64 bits. Write it as text.")
    elif not label.strip() or "\0" in label:
        raise InputError(f"{where} is {label!r}; a label has at least one visible character. Give it a name.")
    else:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where} holds a lone surrogate, which is no character: {label!r}. Mend it.") from None
