"""What writes to the loopback Hub: accounts, repositories, branches, uploads, commits, pull requests."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import yaml

from tests.hub.wire import API, TIMESTAMP, Files, Reply, Repo, Request, file_entry, is_lfs, kind

if TYPE_CHECKING:
    from tests.hub.server import LoopbackHub, User

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
_LICENSES = {"mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "gpl-3.0", "bsd-3-clause", "openrail", "other"}
_GIT = r"/(?:(?P<kinds>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs"


def _sender(hub: LoopbackHub, request: Request) -> User | Reply:
    user = hub.users.get(request.hf_token or "")
    return user if user is not None else Reply.error(401, "Invalid username or password.")


def _writable(hub: LoopbackHub, request: Request, kinds: str | None, repo_id: str) -> Repo | Reply:
    """The repository, or the reply that refuses to let the sender write to it."""
    repo = hub.find(request, kind(kinds), repo_id)
    if isinstance(repo, Reply):
        return repo
    user = _sender(hub, request)
    if isinstance(user, Reply):
        return user
    if not user.may_write(repo.namespace, repo.repo_id):
        return Reply.error(403, "You don't have the rights to write to this repository.")
    return repo


def _whoami(hub: LoopbackHub, request: Request, _: bytes) -> Reply:
    user = _sender(hub, request)
    if isinstance(user, Reply):
        return user
    orgs = [
        {"type": "org", "name": name, "fullname": name, "roleInOrg": user.org_roles.get(name, "write")}
        for name in user.orgs
    ]
    access: dict[str, Any] = {"displayName": "loopback", "role": user.role}
    if user.role == "fineGrained":
        kinds = {user.name: "user", **dict.fromkeys(user.orgs, "org")}
        scoped = [
            {"entity": {"type": kinds.get(entity, "model"), "name": entity}, "permissions": list(permissions)}
            for entity, permissions in user.grants.items()
        ]
        access["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    return Reply.json(
        {
            "type": "user",
            "id": "0" * 24,
            "name": user.name,
            "fullname": user.name,
            "avatarUrl": "",
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": access},
        }
    )


def _create_repo(hub: LoopbackHub, request: Request, body: bytes) -> Reply:
    user = _sender(hub, request)
    if isinstance(user, Reply):
        return user
    asked = json.loads(body)
    namespace = asked.get("organization") or user.name
    repo_id, repo_kind = f"{namespace}/{asked['name']}", asked.get("type") or "model"
    if not user.may_write(namespace):
        return Reply.error(403, f"You don't have the rights to create a {repo_kind} under the namespace {namespace!r}.")
    if repo_kind == "space" and not asked.get("sdk"):
        return Reply.error(400, "A Space needs an sdk.")
    url = f"{hub.url}/{'' if repo_kind == 'model' else repo_kind + 's/'}{repo_id}"
    if hub.has(repo_kind, repo_id):
        return Reply.json({"error": f"You already created this {repo_kind} repo", "url": url}, 409)
    is_private = asked.get("visibility") == "private" or asked.get("private") is True
    hub.add(repo_id, {".gitattributes": GITATTRIBUTES}, kind=repo_kind, private=is_private)
    return Reply.json({"url": url, "name": repo_id, "id": "0" * 24})


def _delete_repo(hub: LoopbackHub, request: Request, body: bytes) -> Reply:
    asked = json.loads(body)
    user = _sender(hub, request)
    if isinstance(user, Reply):
        return user
    plural = (asked.get("type") or "model") + "s"
    found = _writable(hub, request, plural, f"{asked.get('organization') or user.name}/{asked['name']}")
    if isinstance(found, Reply):
        return found
    hub.remove(found)
    return Reply.json({})


def _validate_yaml(hub: LoopbackHub, request: Request, body: bytes) -> Reply:
    asked = json.loads(body)
    parts = asked["content"].split("---\n")
    try:
        metadata = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else None
    except yaml.YAMLError as error:
        return Reply.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    if metadata is None:
        return Reply.json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    license_name = metadata.get("license")
    if license_name is not None and license_name not in _LICENSES:
        message = f'"license" must be one of {", ".join(sorted(_LICENSES))}'
        return Reply.json({"errors": [{"message": message}], "warnings": []}, 400)
    return Reply.json({"errors": [], "warnings": []})


def _create_branch(hub: LoopbackHub, request: Request, body: bytes, kinds: str, repo_id: str, branch: str) -> Reply:
    repo = _writable(hub, request, kinds, repo_id)
    if isinstance(repo, Reply):
        return repo
    branch = unquote(branch)
    if branch in repo.refs:
        return Reply.error(409, f"Reference already exists: {branch}")
    start = repo.resolve((json.loads(body) if body else {}).get("startingPoint") or "main")
    if start is None:
        return Reply.error(404, "Invalid starting point", "RevisionNotFound")
    repo.refs[branch] = start
    return Reply.json({})


def _preupload(hub: LoopbackHub, request: Request, body: bytes, kinds: str, repo_id: str, revision: str) -> Reply:
    repo = _may_commit(hub, request, kinds, repo_id)
    if isinstance(repo, Reply):
        return repo
    commit = repo.resolve(unquote(revision))
    if commit is None:
        return Reply.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    present = repo.commits[commit]
    files = []
    for asked in json.loads(body)["files"]:
        path = asked["path"]
        mode = {"path": path, "uploadMode": "lfs" if is_lfs(path) else "regular", "shouldIgnore": False}
        if path in present:
            entry = file_entry(path, present[path])
            mode["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        files.append(mode)
    return Reply.json({"files": files})


def _may_commit(hub: LoopbackHub, request: Request, kinds: str | None, repo_id: str) -> Repo | Reply:
    """The repository to commit to; anyone with an account may open a pull request."""
    if request.query.get("create_pr") == ["1"]:
        user = _sender(hub, request)
        return user if isinstance(user, Reply) else hub.find(request, kind(kinds), repo_id)
    return _writable(hub, request, kinds, repo_id)


def _lfs_batch(hub: LoopbackHub, request: Request, body: bytes, kinds: str | None, repo_id: str) -> Reply:
    repo = hub.find(request, kind(kinds), repo_id)
    user = _sender(hub, request)
    if isinstance(repo, Reply) or isinstance(user, Reply):
        return repo if isinstance(repo, Reply) else user  # type: ignore[return-value]
    objects = []
    for asked in json.loads(body)["objects"]:
        oid, size = asked["oid"], asked["size"]
        known: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if oid not in hub.blobs:
            upload: dict[str, Any] = {"href": f"{hub.storage_url}/upload/{oid}"}
            if hub.part_bytes is not None and size > hub.part_bytes:
                n_parts = -(-size // hub.part_bytes)
                parts = {f"{i:05}": f"{hub.storage_url}/upload/{oid}/{i}" for i in range(1, n_parts + 1)}
                upload = {"href": f"{hub.url}/complete/{oid}", "header": {"chunk_size": str(hub.part_bytes), **parts}}
            known["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/{repo_id}.git/info/lfs/verify"}}
        objects.append(known)
    return Reply.json({"transfer": "basic", "objects": objects})


def _put_blob(hub: LoopbackHub, request: Request, body: bytes, oid: str, part: str | None = None) -> Reply:
    if request.hf_token is not None:
        return Reply.error(400, "The storage must not be shown a token.")
    if part is not None:
        hub.parts[oid, int(part)] = body
    elif hashlib.sha256(body).hexdigest() != oid:
        return Reply.error(400, "The content does not match its hash.")
    else:
        hub.blobs[oid] = body
    return Reply(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})


def _complete(hub: LoopbackHub, request: Request, body: bytes, oid: str) -> Reply:
    numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
    content = b"".join(hub.parts.pop((oid, number)) for number in numbers)
    if hashlib.sha256(content).hexdigest() != oid:
        return Reply.error(400, "The parts do not make up the file.")
    hub.blobs[oid] = content
    return Reply.json({})


def _verify(hub: LoopbackHub, request: Request, body: bytes, kinds: str | None, repo_id: str) -> Reply:
    asked = json.loads(body)
    blob = hub.blobs.get(asked["oid"])
    if blob is None or len(blob) != asked["size"]:
        return Reply.error(404, "No such object")
    return Reply.json({})


def _xet_token(hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str, revision: str) -> Reply:
    found = _may_commit(hub, request, kinds, repo_id)
    if isinstance(found, Reply):
        return found
    if hub.xet_folder is None:
        return Reply.error(404, "No Xet here")
    reply = {"accessToken": "xet", "exp": int(time.time()) + 3600, "casUrl": f"local://{hub.xet_folder}"}
    return Reply.json(reply)


def _commit(hub: LoopbackHub, request: Request, body: bytes, kinds: str, repo_id: str, revision: str) -> Reply:
    repo = _may_commit(hub, request, kinds, repo_id)
    if isinstance(repo, Reply):
        return repo
    lines = [json.loads(line) for line in body.splitlines()]
    header = lines[0]["value"]
    revision = unquote(revision)
    parent = repo.resolve(revision)
    if parent is None:
        return Reply.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    if header.get("parentCommit") not in (None, parent):
        return Reply.error(412, "A commit has happened since. Please refresh and try again.")
    tree = _changed(hub, repo.commits[parent], lines[1:])
    if isinstance(tree, Reply):
        return tree
    reply: dict[str, Any] = {"success": True, "hookOutput": ""}
    if request.query.get("create_pr") == ["1"]:
        number = len(repo.pull_requests) + 1
        author = hub.users[request.hf_token or ""].name
        repo.pull_requests.append({"num": number, "title": header["summary"], "author": author})
        revision = f"refs/pr/{number}"
        reply["pullRequestUrl"] = f"{hub.url}/{repo_id}/discussions/{number}"
    oid = hub.commit(repo, tree, revision)
    return Reply.json({**reply, "commitOid": oid, "commitUrl": f"{hub.url}/{repo_id}/commit/{oid}"})


def _changed(hub: LoopbackHub, before: Files, operations: list[Mapping[str, Any]]) -> dict[str, bytes] | Reply:
    """The tree after the operations of a commit."""
    tree = dict(before)
    for operation in operations:
        value = operation["value"]
        path = value["path"]
        if operation["key"] == "file":
            tree[path] = base64.b64decode(value["content"])
        elif operation["key"] == "lfsFile":
            if value["oid"] not in hub.blobs and hub.xet_folder is None:
                return Reply.error(400, f"The LFS object {value['oid']} of {path} was never uploaded.")
            tree[path] = hub.blobs.get(value["oid"], b"")
        elif operation["key"] == "deletedFile":
            tree.pop(path, None)
        elif operation["key"] == "deletedFolder":
            tree = {name: content for name, content in tree.items() if not name.startswith(f"{path.rstrip('/')}/")}
    return tree


def _get_discussions(hub: LoopbackHub, request: Request, _: bytes, kinds: str, repo_id: str) -> Reply:
    repo = hub.find(request, kind(kinds), repo_id)
    if isinstance(repo, Reply):
        return repo
    discussions = [
        {
            **pull_request,
            "author": {"name": pull_request["author"]},
            "status": "open",
            "isPullRequest": True,
            "createdAt": TIMESTAMP,
            "repo": {"name": repo_id, "type": kind(kinds)},
        }
        for pull_request in repo.pull_requests
    ]
    return Reply.json({"discussions": discussions, "count": len(discussions), "start": 0})


ROUTES = (
    ("GET", r"/api/whoami-v2", _whoami),
    ("POST", r"/api/repos/create", _create_repo),
    ("DELETE", r"/api/repos/delete", _delete_repo),
    ("POST", r"/api/validate-yaml", _validate_yaml),
    ("POST", rf"{API}/branch/(?P<branch>[^/]+)", _create_branch),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", _preupload),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", _commit),
    ("GET", rf"{API}/xet-write-token/(?P<revision>[^/]+)", _xet_token),
    ("GET", rf"{API}/discussions", _get_discussions),
    ("POST", rf"{_GIT}/objects/batch", _lfs_batch),
    ("POST", rf"{_GIT}/verify", _verify),
    ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?", _put_blob),
    ("POST", r"/complete/(?P<oid>[0-9a-f]{64})", _complete),
)
