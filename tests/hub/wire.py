"""What goes over the wire of the loopback Hub, and the repositories behind it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".model", ".so")
TIMESTAMP = "2024-01-01T00:00:00.000Z"
API = r"/api/(?P<kinds>models|datasets|spaces)/(?P<repo_id>[^/]+(?:/[^/]+)?)"
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Request:
    """A request as it arrived; `hf_token` is None when it carried none."""

    method: str
    path: str
    query: dict[str, list[str]]
    hf_token: str | None


@dataclass(frozen=True)
class Reply:
    """An answer; `cut_after` closes the connection after so many bytes of the body (0: before the status)."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """`value` as a JSON document."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    @classmethod
    def error(
        cls, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A failure as the Hub tells it: the message in body and header, and its error code."""
        codes = {"X-Error-Code": code} if code else {}
        return cls.json({"error": message}, status, {"X-Error-Message": message, **codes, **(headers or {})})


@dataclass
class Repo:
    """A repository: its commits (each the whole tree) and the names that point at them."""

    repo_id: str
    kind: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pull_requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """Whose it is."""
        return self.repo_id.partition("/")[0]

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag, commit or beginning of one names."""
        if revision in self.refs:
            return self.refs[revision]
        matching = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return matching[0] if len(matching) == 1 else None


def files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def file_entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_blob_id(content)}
    if is_lfs(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


def kind(plural: str | None) -> str:
    """The repository type of the plural in an address, `spaces` or `api/spaces`; models by default."""
    return plural.rstrip("s") if plural else "model"
