from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2v_core.errors import HubError, InputError, M2VError, MissingExtraError, NotFoundError
from m2v_core.hub.dataset_rows import read_dataset
from tests.hub.server import LoopbackHub

ROWS = [{"text": f"a fox, {number}\nand a <b>hen</b>", "label": number, "tags": ["x"]} for number in range(30)]


@pytest.fixture
def add(session_hub: LoopbackHub, tmp_path: Path) -> Iterator[object]:
    """Adds a data set with these files to the Hub."""
    added = []

    def add(name: str, **files: list[dict[str, object]]) -> None:
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        for stem, rows in files.items():
            lines = "".join(f"{json.dumps(row)}\n" for row in rows)
            (folder / f"{stem}.jsonl").write_text(lines, encoding="utf-8")
        session_hub.add(name, folder, kind="dataset")
        added.append(name)

    yield add
    for name in added:
        session_hub.remove(session_hub.repo(name, "dataset"))


def test_the_first_rows_are_those_of_the_file(add, tmp_path: Path) -> None:
    add("lab/foxes", train=ROWS, test=ROWS[:3])
    found = read_dataset("lab/foxes", max_rows=20)
    assert (found.split, found.columns, found.is_complete) == ("train", ["text", "label"], False)
    assert found.rows == [[row["text"], row["label"]] for row in ROWS[:20]]
    assert read_dataset("lab/foxes", max_rows=30).is_complete
    found.write_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["text"] for row in written] == [row["text"] for row in ROWS[:20]]


def test_without_a_split_train_the_first_one_is_read(add) -> None:
    add("lab/tests", test=[*ROWS[:2], {"text": None, "label": 5, "tags": []}])
    found = read_dataset("lab/tests")
    assert found.split == "test" and found.rows[-1] == ["", 5] and found.is_complete


@pytest.mark.parametrize(
    ("name", "subset", "error", "says"),
    [
        ("lab/absent", None, NotFoundError, "not found on the Hub, is private or gated"),
        ("../etc/passwd", None, InputError, "can't be the name of a data set"),
        ("<img src=x>", None, InputError, "can't be the name of a data set"),
        ("lab/foxes", "nope", InputError, "nope"),
        ("lab/numbers", None, InputError, "contain no text"),
    ],
)
def test_what_can_not_be_read(add, name: str, subset: str | None, error: type[M2VError], says: str) -> None:
    add("lab/foxes", train=ROWS)
    add("lab/numbers", train=[{"a": 1}, {"a": 2}])
    with pytest.raises(error, match=says):
        read_dataset(name, subset)


def test_a_hub_that_fails(add, session_hub: LoopbackHub) -> None:
    add("lab/foxes", train=ROWS)
    with session_hub.failing("/datasets/lab/foxes", status=403), pytest.raises((HubError, NotFoundError)):
        read_dataset("lab/foxes")


def test_without_the_package_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        read_dataset("lab/foxes")
