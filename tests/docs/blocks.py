"""The documents and their blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        document: Path from the root of the project.
        language: As the fence names it; empty for none.
        code: Without the fences.
    """

    document: str
    language: str
    code: str

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell block, without comments and line continuations."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [command for line in lines if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


def blocks_of(document: str) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", TEXTS[document], flags=re.MULTILINE | re.DOTALL)
    return [Block(document, language, code) for language, code in found]


BLOCKS = [block for document in TEXTS for block in blocks_of(document)]
SHELL = ("", "bash")
COMMANDS = [(block.document, command) for block in BLOCKS if block.language in SHELL for command in block.commands]
