"""Removal of secrets from text that is written to disk."""

from __future__ import annotations

import re
from collections.abc import Iterable

from m2v_core.studio.jobs.records import Json

REDACTED = "[redacted]"

# A Hub token is hf_ or (older) api_org_ followed by 34 letters or digits. In logs, ten are enough to redact; fewer
# would match names such as hf_transfer.
_HUB_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{10,}")
# User input may contain words like hf_somethinglong, so only full-length tokens count.
_WHOLE_HUB_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}")


class Redactor:
    """Removes the given secrets, and anything that looks like a Hub token, from text.

    Args:
        secrets: Values to remove; empty ones are ignored.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that a secret that contains another is removed completely.
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Replace each secret in a text with `[redacted]`."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return _HUB_TOKEN.sub(REDACTED, text)

    def json(self, value: Json) -> Json:
        """Redact all strings in a JSON value, including keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        return value

    def has_secret(self, value: Json) -> bool:
        """Whether any string in a JSON value contains a secret or a full-length Hub token."""
        if isinstance(value, str):
            has_known = any(secret in value for secret in self._secrets)
            return has_known or _WHOLE_HUB_TOKEN.search(value) is not None
        if isinstance(value, dict):
            return any(self.has_secret(key) or self.has_secret(item) for key, item in value.items())
        return isinstance(value, (list, tuple)) and any(self.has_secret(item) for item in value)
