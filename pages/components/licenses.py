"""Common licenses that the app offers; others can be entered."""

from __future__ import annotations

_COMMON = [
    ("Apache 2.0", "apache-2.0"),
    ("MIT", "mit"),
    ("CC BY 4.0", "cc-by-4.0"),
    ("CC BY-SA 4.0", "cc-by-sa-4.0"),
    ("CC BY-NC 4.0 · noncommercial", "cc-by-nc-4.0"),
    ("CC BY-NC-SA 4.0 · noncommercial", "cc-by-nc-sa-4.0"),
    ("BSD 3-Clause", "bsd-3-clause"),
    ("GPL 3.0", "gpl-3.0"),
    ("AGPL 3.0", "agpl-3.0"),
    ("MPL 2.0", "mpl-2.0"),
    ("CC0 1.0 · public domain", "cc0-1.0"),
]


def license_choices(also: str | None = None) -> list[tuple[str, str]]:
    """Return the label and id of each license, including `also`."""
    if also and also not in {name for _, name in _COMMON}:
        return [(also, also), *_COMMON]
    return _COMMON
