"""What stands above the text of a model card, in YAML.

A card is for people: a damaged one is logged, and never keeps a model from loading.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrontMatter:
    """The front matter of a card, parsed when asked: importing a parser takes as long as loading a model.

    Attributes:
        path: Of the card.
        text: Empty where there is no card, no front matter, or none that can be read.
    """

    path: Path
    text: str

    @classmethod
    def of(cls, path: Path) -> FrontMatter:
        """That of the card in a file."""
        text = ""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("Ignored the model card %s: %s", path, error)
        return cls(path, text.split("\n---", 1)[0] if text.startswith("---") else "")

    def fields(self) -> dict[str, Any]:
        """What it states; nothing where it is no mapping in YAML."""
        import yaml

        try:
            fields = next(yaml.safe_load_all(self.text), None)
        except yaml.YAMLError as error:
            logger.warning("Ignored the front matter of %s: %s", self.path, error)
            return {}
        return fields if isinstance(fields, dict) else {}


def as_list(value: object) -> list[str]:
    """A field that may hold one name, several or none."""
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str)]
