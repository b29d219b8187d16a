"""A Hub on loopback: real HTTP for the real huggingface_hub client, with errors on demand.

    with LoopbackHub() as hub:
        hub.add("someone/model", folder)
        HfApi(endpoint=hub.url).model_info("someone/model")
        with hub.failing(r"/resolve/", status=500):
            ...

What it speaks is in `pull` (infos, trees, files, the paged list of models) and `push` (accounts, repositories,
branches, LFS uploads, commits, pull requests), and how it fails in `faults`. Like the Hub, it keeps large files on
another host.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import pull, push
from tests.hub.faults import Faults
from tests.hub.wire import Files, Reply, Repo, Request, files_under, is_lfs

_ROUTES = [(verb, re.compile(pattern), action) for verb, pattern, action in (*push.ROUTES, *pull.ROUTES)]


@dataclass(frozen=True)
class User:
    """Whom a token logs in.

    Attributes:
        name: The account.
        role: `"read"`; `"write"`, in the account's own name and its organisations'; `"admin"`, everywhere;
            `"fineGrained"`, where `grants` says so.
        orgs: The organisations it belongs to.
        org_roles: Its role in some of them, where that is not `role`.
        grants: What a fine-grained token allows: permissions by account, organisation or repository.
    """

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()
    org_roles: Mapping[str, str] = field(default_factory=dict)
    grants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def may_read(self, namespace: str) -> bool:
        """Whether the private repositories of `namespace` are open to it."""
        return self.role == "admin" or namespace in (self.name, *self.orgs)

    def may_write(self, namespace: str, repo_id: str = "") -> bool:
        """Whether it may create repositories under `namespace`, or write to the one that is named."""
        if self.role == "fineGrained":
            return any("repo.write" in self.grants.get(entity, ()) for entity in (namespace, repo_id))
        return self.role != "read" and self.org_roles.get(namespace) != "read" and self.may_read(namespace)


class LoopbackHub(Faults):
    """The Hub's state and its server; a context manager.

    Attributes:
        url: What `HF_ENDPOINT` or `endpoint` takes.
        storage_url: The other host, where LFS files are; the client must not show it the token.
        users: Accounts by token.
        requests: Everything that was asked, in order.
        blobs: The LFS files by hash, committed or not.
        parts: Parts of uploads under way.
        bytes_per_second: How fast it sends; None for as fast as it can.
        part_bytes: Larger uploads come in parts of this size; None for one piece always.
        xet_folder: Where Xet uploads go; None to have no Xet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.users = {"hf_loopback": User("tester", "admin")}
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.bytes_per_second: int | None = None
        self.part_bytes: int | None = None
        self.xet_folder: Path | None = None
        self._repos: dict[tuple[str, str], Repo] = {}
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
            files = {path.relative_to(root).as_posix(): path.read_bytes() for path in files_under(root)}
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
                if is_lfs(path):
                    self.blobs[hashlib.sha256(tree[path]).hexdigest()] = tree[path]
            repo.commits[digest.hexdigest()] = tree
            repo.refs[revision] = digest.hexdigest()
        return digest.hexdigest()

    def has(self, kind: str, repo_id: str) -> bool:
        """Whether there is such a repository."""
        return (kind, repo_id) in self._repos

    def remove(self, repo: Repo) -> None:
        """Delete a repository."""
        with self._lock:
            del self._repos[repo.kind, repo.repo_id]

    def files(self, repo_id: str, revision: str = "main", kind: str = "model") -> dict[str, bytes]:
        """The files of a revision, by path."""
        repo = self._repos[kind, repo_id]
        return dict(repo.commits[repo.refs.get(revision, revision)])

    def repo(self, repo_id: str, kind: str = "model") -> Repo:
        """The repository as the Hub keeps it."""
        return self._repos[kind, repo_id]

    def paths(self, method: str = "GET") -> list[str]:
        """The paths asked for with `method`, in order."""
        return [request.path for request in self.requests if request.method == method]

    def route(self, request: Request, body: bytes) -> Reply:
        """What to send back."""
        method = "GET" if request.method == "HEAD" else request.method
        for verb, pattern, action in _ROUTES:
            if verb == method and (match := pattern.fullmatch(request.path)):
                return action(self, request, body, **match.groupdict())
        return Reply.error(404, f"No route for {request.method} {request.path}")

    def visible_models(self, request: Request) -> list[Repo]:
        """The models that the request's sender may see, by name."""
        repos = [repo for (kind, _), repo in sorted(self._repos.items()) if kind == "model"]
        return [repo for repo in repos if self._may_see(request, repo)]

    def _may_see(self, request: Request, repo: Repo) -> bool:
        user = self.users.get(request.hf_token or "")
        return not repo.private or (user is not None and user.may_read(repo.namespace))

    def find(self, request: Request, kind: str, repo_id: str) -> Repo | Reply:
        """The repository, or the reply that refuses it."""
        if request.hf_token is not None and request.hf_token not in self.users:
            return Reply.error(401, "Invalid credentials in Authorization header")
        repo = self._repos.get((kind, repo_id))
        if repo is None or not self._may_see(request, repo):
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
        request = Request(
            self.command,
            parts.path,
            parse_qs(parts.query, keep_blank_values=True),
            hf_token if scheme.lower() == "bearer" else None,
        )
        self.hub.requests.append(request)
        fault = self.hub.struck(request)
        if fault is not None and fault.read_bytes is not None:
            self.rfile.read(min(fault.read_bytes, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            return
        body = self._body()
        if fault is not None and fault.reply is not None:
            self._send(fault.reply)
            return
        reply = self.hub.route(request, body)
        if fault is not None:
            reply = Reply(reply.status, reply.body, reply.headers, fault.cut_after)
        self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

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
            self._write(content[: reply.cut_after])
        if reply.cut_after is not None:
            self.close_connection = True

    def _write(self, content: bytes) -> None:
        if self.hub.bytes_per_second is None:
            self.wfile.write(content)
            return
        at_once = max(1, self.hub.bytes_per_second // 20)
        for start in range(0, len(content), at_once):
            self.wfile.write(content[start : start + at_once])
            time.sleep(0.05)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests read `LoopbackHub.requests`."""
