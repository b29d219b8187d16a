"""What reads the loopback Hub: infos, trees, files, the list of models."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode

import yaml

from tests.hub.wire import API, TIMESTAMP, Files, Reply, Repo, Request, file_entry, git_blob_id, is_lfs, kind

if TYPE_CHECKING:
    from tests.hub.server import LoopbackHub

PAGE_SIZE = 20


def _entries(files: Files, under: str, recursive: bool) -> list[dict[str, Any]] | None:
    """The tree's entries below the folder `under` (empty: the root); None when there is no such folder."""
    prefix = f"{under}/" if under else ""
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted(files):
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)) if recursive else range(1, min(2, len(parts))):
            folder = prefix + "/".join(parts[:depth])
            entries.setdefault(folder, {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40})
        if recursive or len(parts) == 1:
            entries[path] = file_entry(path, files[path])
    return list(entries.values()) if entries or not under else None


def _info(repo: Repo, commit: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
    files = repo.commits[commit]
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(files)]
    if "blobs" in query:
        for sibling in siblings:
            entry = file_entry(sibling["rfilename"], files[sibling["rfilename"]])
            lfs = {"sha256": entry["lfs"]["oid"], **entry["lfs"]} if "lfs" in entry else None
            sibling |= {"size": entry["size"], "blobId": entry["oid"]} | ({"lfs": lfs} if lfs else {})
    is_static = b'"model2vec"' in files.get("config.json", b"")
    library = "model2vec" if is_static else "sentence-transformers" if "modules.json" in files else "transformers"
    return {
        "_id": hashlib.md5(repo.repo_id.encode()).hexdigest()[:24],
        "id": repo.repo_id,
        "modelId": repo.repo_id,
        "author": repo.repo_id.partition("/")[0],
        "sha": commit,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [library, *(["safetensors"] if "model.safetensors" in files else [])],
        "library_name": library,
        "pipeline_tag": "feature-extraction",
        "lastModified": TIMESTAMP,
        "createdAt": TIMESTAMP,
        "siblings": siblings,
        **_counted(files),
        **({"cardData": card} if (card := read_metadata(files.get("README.md", b""))) else {}),
    }


def _counted(files: Files) -> dict[str, Any]:
    """What the Hub counts in safetensors files: the parameters by dtype, from the headers."""
    by_dtype: dict[str, int] = {}
    for path, content in files.items():
        length = int.from_bytes(content[:8], "little")
        if not path.endswith(".safetensors") or content[8:9] != b"{":
            continue
        header = json.loads(content[8 : 8 + length])
        for tensor in (tensor for name, tensor in header.items() if name != "__metadata__"):
            by_dtype[tensor["dtype"]] = by_dtype.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    return {"safetensors": {"parameters": by_dtype, "total": sum(by_dtype.values())}} if by_dtype else {}


def read_metadata(card: bytes) -> dict[str, Any]:
    """The front matter of a README.md; empty where it has none."""
    parts = card.decode().split("---\n")
    metadata = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else None
    return metadata if isinstance(metadata, dict) else {}


def _get_info(
    hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str, revision: str | None = None
) -> Reply:
    found = hub.find_commit(request, kind(kinds), repo_id, revision or "main")
    if isinstance(found, Reply):
        return found
    repo, commit, _files = found
    return Reply.json(_info(repo, commit, request.query))


def _get_tree(
    hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str, revision: str, under: str | None
) -> Reply:
    found = hub.find_commit(request, kind(kinds), repo_id, revision)
    if isinstance(found, Reply):
        return found
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    entries = _entries(found[2], unquote(under or ""), recursive)
    if entries is None:
        return Reply.error(404, f"{under} does not exist", "EntryNotFound")
    return Reply.json(entries)


def _post_paths_info(hub: LoopbackHub, request: Request, body: bytes, kinds: str, repo_id: str, revision: str) -> Reply:
    found = hub.find_commit(request, kind(kinds), repo_id, revision)
    if isinstance(found, Reply):
        return found
    text = body.decode()
    paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    return Reply.json([file_entry(path, found[2][path]) for path in paths if path in found[2]])


def _get_refs(hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str) -> Reply:
    repo = hub.find(request, kind(kinds), repo_id)
    if isinstance(repo, Reply):
        return repo
    branches, proposals = [], []
    for name, commit in repo.refs.items():
        if name.startswith("refs/pr/"):
            proposals.append({"name": name, "ref": name, "targetCommit": commit})
        else:
            branches.append({"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit})
    return Reply.json({"branches": branches, "tags": [], "converts": [], "pullRequests": proposals})


def _get_file(
    hub: LoopbackHub, request: Request, _: bytes, kinds: str | None, repo_id: str, revision: str, path: str
) -> Reply:
    found = hub.find_commit(request, kind(kinds), repo_id, revision)
    if isinstance(found, Reply):
        return found
    repo, commit, files = found
    path = unquote(path)
    known = {"X-Repo-Commit": commit}
    if repo.gated and request.hf_token is None:
        return Reply.error(401, f"Access to model {repo_id} is restricted.", "GatedRepo", known)
    if path not in files:
        return Reply.error(404, "Entry not found", "EntryNotFound", known)
    content = files[path]
    if not is_lfs(path):
        return Reply(200, content, {**known, "ETag": f'"{git_blob_id(content)}"'})
    digest = hashlib.sha256(content).hexdigest()
    linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
    return Reply(302, b"", {**known, **linked, "Location": f"{hub.storage_url}/blobs/{digest}"})


def _get_blob(hub: LoopbackHub, request: Request, _: bytes, digest: str) -> Reply:
    if digest not in hub.blobs:
        return Reply.error(404, "No such blob")
    return Reply(200, hub.blobs[digest], {"ETag": f'"{digest}"'})


def _list_models(hub: LoopbackHub, request: Request, _: bytes) -> Reply:
    query = {name: values[0] for name, values in request.query.items()}
    search, author = query.get("search", "").lower(), query.get("author")
    wanted = set(request.query.get("filter", []))
    infos = [_info(repo, repo.refs["main"], {}) for repo in hub.visible_models(request) if "main" in repo.refs]
    infos = [
        info
        for info in infos
        if search in info["id"].lower() and (author is None or info["author"] == author) and wanted <= set(info["tags"])
    ]
    start, size = int(query.get("cursor", 0)), min(int(query.get("limit", PAGE_SIZE)), PAGE_SIZE)
    headers = {}
    if start + size < len(infos):
        following = [(name, value) for name, values in request.query.items() for value in values if name != "cursor"]
        address = f"{hub.url}{request.path}?{urlencode([*following, ('cursor', start + size)])}"
        headers["Link"] = f'<{address}>; rel="next"'
    return Reply.json(infos[start : start + size], headers=headers)


ROUTES = (
    ("GET", r"/api/models/?", _list_models),
    ("GET", rf"{API}/revision/(?P<revision>[^/]+)", _get_info),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<under>.+))?", _get_tree),
    ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", _post_paths_info),
    ("GET", rf"{API}/refs", _get_refs),
    ("GET", API, _get_info),
    ("GET", r"/blobs/(?P<digest>[0-9a-f]{64})", _get_blob),
    (
        "GET",
        r"/(?:(?P<kinds>datasets|spaces)/)?(?P<repo_id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        _get_file,
    ),
)
