"""A Hub on loopback: real HTTP for the real huggingface_hub client, with errors on demand.

    with LoopbackHub() as hub:
        hub.add("someone/model", folder)
        HfApi(endpoint=hub.url).model_info("someone/model")
        with hub.failing(r"/resolve/", status=500):
            ...

It speaks what the client needs to pull: repository and revision info, tree, paths-info, refs, resolve (small
files directly, LFS files by a redirect to a storage host of their own), the paged list of models, whoami.
`_ROUTES` is the one place where an address meets its answer; what writes (create, preupload, LFS batch,
commit) joins it there and ends in `LoopbackHub.commit`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".model")
PAGE_SIZE = 20
TIMESTAMP = "2024-01-01T00:00:00.000Z"
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

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag, commit or beginning of one names."""
        if revision in self.refs:
            return self.refs[revision]
        matching = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return matching[0] if len(matching) == 1 else None


@dataclass
class _Fault:
    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    reply: Reply
    remaining: int | None


class LoopbackHub:
    """The Hub's state and its server; a context manager.

    Attributes:
        url: What `HF_ENDPOINT` or `endpoint` takes.
        storage_url: The other host, which LFS files come from; the client must not show it the token.
        users: User names by the token that logs them in; a user reads every private and gated repository.
        requests: Everything that was asked, in order.
    """

    def __init__(self) -> None:
        self.users = {"hf_loopback": "tester"}
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self._repos: dict[tuple[str, str], Repo] = {}
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def start(self) -> LoopbackHub:
        """Serve, in a thread of its own."""
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop serving; a connection is refused from now on."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> LoopbackHub:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that point huggingface_hub at this Hub, and at nothing of the user's."""
        return client_environment(self.url, home)

    def add(
        self,
        repo_id: str,
        files: Path | Files,
        *,
        kind: str = "model",
        private: bool = False,
        gated: bool = False,
        revision: str = "main",
    ) -> str:
        """The new commit's hash; `files` (a folder, or contents by path) become the tree of `revision`."""
        if isinstance(files, Path):
            root = files
            files = {path.relative_to(root).as_posix(): path.read_bytes() for path in _files_under(root)}
        with self._lock:
            repo = self._repos.setdefault((kind, repo_id), Repo(repo_id, kind))
            repo.private, repo.gated = private, gated
        return self.commit(repo, files, revision)

    def commit(self, repo: Repo, files: Files, revision: str = "main") -> str:
        """The new commit's hash; `files` become the whole tree of `revision`."""
        tree = dict(files)
        with self._lock:
            digest = hashlib.sha1(f"{repo.kind} {repo.repo_id} {len(repo.commits)}".encode())
            for path in sorted(tree):
                digest.update(path.encode() + b"\0" + hashlib.sha256(tree[path]).digest())
                if _is_lfs(path):
                    self.blobs[hashlib.sha256(tree[path]).hexdigest()] = tree[path]
            repo.commits[digest.hexdigest()] = tree
            repo.refs[revision] = digest.hexdigest()
        return digest.hexdigest()

    @contextmanager
    def failing(
        self,
        pattern: str,
        *,
        status: int = 500,
        message: str = "Told to fail.",
        error_code: str | None = None,
        headers: Mapping[str, str] | None = None,
        cut_after: int | None = None,
        methods: tuple[str, ...] = (),
        times: int | None = None,
    ) -> Iterator[None]:
        """Fail the requests whose path matches `pattern` (re.search) while the context lasts.

        Args:
            pattern: A regular expression; `""` matches every request.
            status: The status to answer with.
            message: The text of `X-Error-Message`.
            error_code: The text of `X-Error-Code`: `RepoNotFound`, `GatedRepo`, ...
            headers: More headers, such as `Retry-After`.
            cut_after: Close the connection after so many bytes of the true answer's body; 0: before it.
            methods: Only these methods; empty: all.
            times: Only so many requests; None: all.
        """
        reply = Reply.error(status, message, error_code, headers)
        if cut_after is not None:
            reply = Reply(cut_after=cut_after)
        fault = _Fault(re.compile(pattern), methods, reply, times)
        with self._lock:
            self._faults.append(fault)
        try:
            yield
        finally:
            with self._lock:
                self._faults.remove(fault)

    def paths(self, method: str = "GET") -> list[str]:
        """The paths asked for with `method`, in order."""
        return [request.path for request in self.requests if request.method == method]

    def answer(self, request: Request, body: bytes) -> Reply:
        """What to send back."""
        with self._lock:
            self.requests.append(request)
            fault = next((fault for fault in self._faults if self._strikes(fault, request)), None)
            if fault is not None and fault.remaining is not None:
                fault.remaining -= 1
        if fault is not None and fault.reply.cut_after is None:
            return fault.reply
        reply = self._route(request, body)
        if fault is not None:
            reply = Reply(reply.status, reply.body, reply.headers, fault.reply.cut_after)
        return reply

    @staticmethod
    def _strikes(fault: _Fault, request: Request) -> bool:
        return (
            fault.remaining != 0
            and (not fault.methods or request.method in fault.methods)
            and fault.pattern.search(request.path) is not None
        )

    def _route(self, request: Request, body: bytes) -> Reply:
        method = "GET" if request.method == "HEAD" else request.method
        for verb, pattern, action in _ROUTES:
            if verb == method and (match := pattern.fullmatch(request.path)):
                return action(self, request, body, **match.groupdict())
        return Reply.error(404, f"No route for {request.method} {request.path}")

    def visible_models(self, request: Request) -> list[Repo]:
        """The models that the request's sender may see, by name."""
        known = request.hf_token in self.users
        repos = [repo for (kind, _), repo in sorted(self._repos.items()) if kind == "model"]
        return [repo for repo in repos if known or not repo.private]

    def find(self, request: Request, kind: str, repo_id: str) -> Repo | Reply:
        """The repository, or the reply that refuses it."""
        if request.hf_token is not None and request.hf_token not in self.users:
            return Reply.error(401, "Invalid credentials in Authorization header")
        repo = self._repos.get((kind, repo_id))
        if repo is None or (repo.private and request.hf_token is None):
            return Reply.error(404, "Repository not found", "RepoNotFound")
        return repo

    def find_commit(
        self, request: Request, kind: str, repo_id: str, revision: str
    ) -> tuple[Repo, str, dict[str, bytes]] | Reply:
        """The repository, its commit and the commit's files, or the reply that refuses them."""
        repo = self.find(request, kind, repo_id)
        if isinstance(repo, Reply):
            return repo
        commit = repo.resolve(unquote(revision))
        if commit is None:
            return Reply.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit, repo.commits[commit]


def client_environment(endpoint: str, home: Path) -> dict[str, str]:
    """Variables that point huggingface_hub at `endpoint`, and at nothing of the user's."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_TOKEN": "",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_SHARED_BLOBS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "TRANSFORMERS_OFFLINE": "0",
    }


def _files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def _is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def _git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _file_entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _git_blob_id(content)}
    if _is_lfs(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


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
            entries[path] = _file_entry(path, files[path])
    return list(entries.values()) if entries or not under else None


def _info(repo: Repo, commit: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
    files = repo.commits[commit]
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(files)]
    if "blobs" in query:
        for sibling in siblings:
            entry = _file_entry(sibling["rfilename"], files[sibling["rfilename"]])
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


def _kind(plural: str | None) -> str:
    """The repository type of the plural in an address, `spaces` or `api/spaces`; models by default."""
    return plural.rstrip("s") if plural else "model"


def _get_info(
    hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str, revision: str | None = None
) -> Reply:
    found = hub.find_commit(request, _kind(kinds), repo_id, revision or "main")
    if isinstance(found, Reply):
        return found
    repo, commit, _files = found
    return Reply.json(_info(repo, commit, request.query))


def _get_tree(
    hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str, revision: str, under: str | None
) -> Reply:
    found = hub.find_commit(request, _kind(kinds), repo_id, revision)
    if isinstance(found, Reply):
        return found
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    entries = _entries(found[2], unquote(under or ""), recursive)
    if entries is None:
        return Reply.error(404, f"{under} does not exist", "EntryNotFound")
    return Reply.json(entries)


def _post_paths_info(hub: LoopbackHub, request: Request, body: bytes, kinds: str, repo_id: str, revision: str) -> Reply:
    found = hub.find_commit(request, _kind(kinds), repo_id, revision)
    if isinstance(found, Reply):
        return found
    text = body.decode()
    paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    return Reply.json([_file_entry(path, found[2][path]) for path in paths if path in found[2]])


def _get_refs(hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str) -> Reply:
    repo = hub.find(request, _kind(kinds), repo_id)
    if isinstance(repo, Reply):
        return repo
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in repo.refs.items()
    ]
    return Reply.json({"branches": branches, "tags": [], "converts": [], "pullRequests": []})


def _get_file(
    hub: LoopbackHub, request: Request, _: bytes, kinds: str | None, repo_id: str, revision: str, path: str
) -> Reply:
    found = hub.find_commit(request, _kind(kinds), repo_id, revision)
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
    if not _is_lfs(path):
        return Reply(200, content, {**known, "ETag": f'"{_git_blob_id(content)}"'})
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


def _whoami(hub: LoopbackHub, request: Request, _: bytes) -> Reply:
    name = hub.users.get(request.hf_token or "")
    if name is None:
        return Reply.error(401, "Invalid username or password.")
    access = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
    return Reply.json({"type": "user", "id": "0" * 24, "name": name, "fullname": name, "orgs": [], "auth": access})


_API = r"/api/(?P<kinds>models|datasets|spaces)/(?P<repo_id>[^/]+(?:/[^/]+)?)"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = [
    (verb, re.compile(pattern), action)
    for verb, pattern, action in (
        ("GET", r"/api/whoami-v2", _whoami),
        ("GET", r"/api/models/?", _list_models),
        ("GET", rf"{_API}/revision/(?P<revision>[^/]+)", _get_info),
        ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<under>.+))?", _get_tree),
        ("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)", _post_paths_info),
        ("GET", rf"{_API}/refs", _get_refs),
        ("GET", _API, _get_info),
        ("GET", r"/blobs/(?P<digest>[0-9a-f]{64})", _get_blob),
        (
            "GET",
            r"/(?:(?P<kinds>datasets|spaces)/)?(?P<repo_id>[^/]+(?:/[^/]+)?)"
            r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
            _get_file,
        ),
    )
]


class _Server(ThreadingHTTPServer):
    """A server whose open connections end with it: clients keep theirs for the next request."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """HTTP: reads a request, lets the hub answer, writes the reply."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        scheme, _, hf_token = self.headers.get("Authorization", "").partition(" ")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command,
            parts.path,
            parse_qs(parts.query, keep_blank_values=True),
            hf_token if scheme.lower() == "bearer" else None,
        )
        self._send(self.hub.answer(request, body))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _send(self, reply: Reply) -> None:
        if reply.cut_after == 0:
            self.close_connection = True
            return
        status, content = reply.status, reply.body
        headers = {"Content-Type": "application/octet-stream", **reply.headers}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and status == 200:
            status, start = 206, int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: reply.cut_after])
        if reply.cut_after is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests read `LoopbackHub.requests`."""
