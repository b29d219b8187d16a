"""Keeping secrets out of everything that reaches the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable

from m2v_core.studio.jobs.records import Json

REDACTED = "[redacted]"

# Hub tokens are hf_ and 34 letters or digits, older ones api_org_ and 34. Ten are enough to be suspicious in
# a log; fewer would hide names such as hf_transfer.
_HUB_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{10,}")
# What people type can be a word like hf_somethinglong, so only a full-length one counts.
_WHOLE_HUB_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}")


class Redactor:
    """Removes the given secrets, and anything that looks like a Hub token, from text.

    Args:
        secrets: Values to remove wherever they occur, empty ones aside.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that a secret that contains another is removed whole.
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text with `[redacted]` in place of each secret."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return _HUB_TOKEN.sub(REDACTED, text)

    def json(self, value: Json) -> Json:
        """The same JSON value with every string in it, keys too, redacted."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        return value

    def has_secret(self, value: Json) -> bool:
        """Whether any string in a JSON value holds a secret, or a whole Hub token."""
        if isinstance(value, str):
            has_known = any(secret in value for secret in self._secrets)
            return has_known or _WHOLE_HUB_TOKEN.search(value) is not None
        if isinstance(value, dict):
            return any(self.has_secret(key) or self.has_secret(item) for key, item in value.items())
        return isinstance(value, (list, tuple)) and any(self.has_secret(item) for item in value)
