"""The YAML front matter of a model card.

Cards are documentation: a damaged card is logged, and never prevents a model from loading.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrontMatter:
    """The front matter of a card, parsed lazily: importing a parser takes as long as loading a model.

    Attributes:
        path: Path of the card.
        text: Empty if the card is missing, unreadable or has no front matter.
    """

    path: Path
    text: str

    @classmethod
    def of(cls, path: Path) -> FrontMatter:
        """Read the front matter of the card at `path`."""
        text = ""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("Ignored the model card %s: %s", path, error)
        return cls(path, text.split("\n---", 1)[0] if text.startswith("---") else "")

    def fields(self) -> dict[str, Any]:
        """Its fields; empty if it is not a YAML mapping."""
        import yaml

        try:
            fields = next(yaml.safe_load_all(self.text), None)
        except yaml.YAMLError as error:
            logger.warning("Ignored the front matter of %s: %s", self.path, error)
            return {}
        return fields if isinstance(fields, dict) else {}


def as_list(value: object) -> list[str]:
    """Convert a field with one name, several names or none to a list."""
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str)]
