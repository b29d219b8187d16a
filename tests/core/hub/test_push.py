"""Publishing with the real client to the loopback Hub: results, errors, and what failures leave behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from m2v_core.errors import Cancelled, HubError, InputError, NotFoundError, RepoExistsError
from m2v_core.hub.push import check_repo_id, push_folder
from m2v_core.model import StaticModel
from m2v_core.progress import Progress
from m2v_core.storage.card import Measured
from tests.hub.server import LoopbackHub, User, client_environment
from tests.static_models import static_model

TEXTS = ["heart attack", "myocardial infarction", ""]
ADA, READER, STRANGER = "hf_ada", "hf_reader", "hf_stranger"


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.users = {
            ADA: User("ada", orgs=("lab",)),
            READER: User("ada", role="read"),
            STRANGER: User("bob"),
        }
        yield hub


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    static_model().save_pretrained(tmp_path / "model", license="mit")
    return tmp_path / "model"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts of the client and of this library, which are recorded instead of waited for."""
    waited: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (waited.append(seconds), sleep(0))[1])
    monkeypatch.setattr(threading.Event, "wait", _recording(threading.Event.wait, waited, (1.0, 2.0, 4.0, 7.0)))
    return waited


def _recording(wait, waited: list[float], ours: tuple[float, ...]):
    def record(self: threading.Event, timeout: float | None = None) -> bool:
        if timeout in ours:
            waited.append(timeout)
            timeout = 0.0
        return wait(self, timeout)

    return record


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_hub(hub: LoopbackHub, repo_id: str = "ada/model", revision: str = "main") -> dict[str, bytes]:
    return {path: data for path, data in hub.files(repo_id, revision).items() if path != ".gitattributes"}


def test_a_model_is_published_complete_private_and_in_one_commit(hub: LoopbackHub) -> None:
    model = static_model()
    pushed = model.push_to_hub("ada/model", ADA, endpoint=hub.url)
    assert (pushed.repo_id, pushed.url, pushed.revision) == ("ada/model", f"{hub.url}/ada/model", "main")
    assert pushed.verified
    assert pushed.pr_url is None
    repo = hub.repo("ada/model")
    assert repo.private
    assert repo.refs["main"] == pushed.commit
    assert len(repo.commits) == 2  # the initial commit of the Hub, and ours
    assert {"model.safetensors", "tokenizer.json", "config.json", "modules.json", "README.md"} == set(on_hub(hub))


def test_from_pretrained_loads_a_published_model(session_hub: LoopbackHub) -> None:
    static_model("Unigram").push_to_hub("tester/unigram", "hf_loopback", private=False)
    again = StaticModel.from_pretrained("tester/unigram")
    np.testing.assert_array_equal(again.encode(TEXTS), static_model("Unigram").encode(TEXTS))
    assert again.tokens == static_model("Unigram").tokens


def test_a_name_without_owner_uses_the_account_of_the_token(hub: LoopbackHub, model_folder: Path) -> None:
    assert push_folder(model_folder, "model", token=ADA, endpoint=hub.url).repo_id == "ada/model"
    assert push_folder(model_folder, "lab/model", token=ADA, endpoint=hub.url, private=False).repo_id == "lab/model"
    assert not hub.repo("lab/model").private


def test_the_folder_is_not_changed_and_hidden_files_are_not_uploaded(hub: LoopbackHub, model_folder: Path) -> None:
    (model_folder / ".secret").write_text("mine")
    before = content(model_folder)
    push_folder(model_folder, "ada/model", token=ADA, card="---\nlicense: mit\n---\n# Mine\n", endpoint=hub.url)
    assert content(model_folder) == before
    assert on_hub(hub)["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"
    assert ".secret" not in on_hub(hub)


def test_the_card(hub: LoopbackHub) -> None:
    model = StaticModel(
        static_model().token_embeddings,
        static_model().tokenizer,
        base_model_name="someone/teacher",
        language=["en"],
        config={
            "tokenizer_name": "someone/teacher",
            "apply_pca": 256,
            "sif_coefficient": 1e-4,
            "pooling": "mean",
            "m2v": {"recipe": "model2vec", "mode": "vocabulary (word)", "weighting": "sif", "teacher_revision": "abc"},
        },
    )
    measured = Measured(fidelity=0.9312, fidelity_on="200 sentences", sentences_per_second=51234.0, hardware="2 cores")
    model.push_to_hub("ada/model", ADA, license="apache-2.0", measured=measured, endpoint=hub.url)
    text = on_hub(hub)["README.md"].decode()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["base_model"] == "someone/teacher"
    assert (metadata["license"], metadata["language"], metadata["library_name"]) == ("apache-2.0", ["en"], "model2vec")
    for said in (
        "Fidelity: 0.931",
        "on 200 sentences",
        "51,234 sentences/s on 2 cores",
        "Teacher's commit: `abc`",
        "--pca-dims 256",
        "--vocabulary-path words.txt",
        "--no-use-subword",
        'StaticModel.from_pretrained("ada/model")',
        'SentenceTransformer("ada/model")',
    ):
        assert said in text, said
    model.push_to_hub("ada/unmeasured", ADA, endpoint=hub.url)
    plain = on_hub(hub, "ada/unmeasured")["README.md"].decode()
    assert not [word for word in ("Fidelity", "Speed", "license:", "None") if word in plain]


def test_nothing_is_overwritten_without_overwrite(hub: LoopbackHub, model_folder: Path) -> None:
    first = push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    before = on_hub(hub)
    static_model("Unigram").save_pretrained(model_folder.parent / "other")
    with pytest.raises(RepoExistsError, match="already exists") as caught:
        push_folder(model_folder.parent / "other", "ada/model", token=ADA, endpoint=hub.url)
    for way in ("create_pr", "revision", "overwrite", "another name"):
        assert way in str(caught.value)
    assert on_hub(hub) == before
    assert hub.repo("ada/model").refs["main"] == first.commit


def test_overwriting_leaves_no_stale_files(hub: LoopbackHub, model_folder: Path) -> None:
    hub.add("ada/model", {"embeddings.safetensors": b"old", "onnx/model.onnx": b"old", "notes.txt": b"mine"})
    push_folder(model_folder, "ada/model", token=ADA, overwrite=True, endpoint=hub.url)
    assert on_hub(hub) == content(model_folder) | {"notes.txt": b"mine"}


def test_a_new_branch(hub: LoopbackHub, model_folder: Path) -> None:
    hub.add("ada/model", {"embeddings.safetensors": b"old"})
    pushed = push_folder(model_folder, "ada/model", token=ADA, revision="v2", endpoint=hub.url)
    assert pushed.revision == "v2"
    assert on_hub(hub, revision="v2") == content(model_folder)
    assert on_hub(hub) == {"embeddings.safetensors": b"old"}
    with pytest.raises(RepoExistsError, match="'v2'"):
        push_folder(model_folder, "ada/model", token=ADA, revision="v2", endpoint=hub.url)
    push_folder(model_folder, "ada/new", token=ADA, revision="v1", endpoint=hub.url)
    assert on_hub(hub, "ada/new", "v1") == content(model_folder)
    assert on_hub(hub, "ada/new") == {}


def test_a_pull_request_changes_no_branch(hub: LoopbackHub, model_folder: Path) -> None:
    hub.add("ada/model", {"embeddings.safetensors": b"old"})
    pushed = push_folder(model_folder, "ada/model", token=STRANGER, create_pr=True, endpoint=hub.url)
    assert (pushed.pr_url, pushed.revision) == (f"{hub.url}/ada/model/discussions/1", "refs/pr/1")
    assert pushed.verified
    assert on_hub(hub) == {"embeddings.safetensors": b"old"}
    assert on_hub(hub, revision="refs/pr/1") == content(model_folder)
    with pytest.raises(InputError, match="Pull requests always target main"):
        push_folder(model_folder, "ada/model", token=ADA, create_pr=True, revision="v2", endpoint=hub.url)
    with pytest.raises(NotFoundError, match="no ada/nothing"):
        push_folder(model_folder, "ada/nothing", token=ADA, create_pr=True, endpoint=hub.url)


@pytest.mark.parametrize("name", ["my model", "a/b/c", "-a/b", "ada/", "/b", "ada/x--y", "ada/x..y", "ada/x.git", ""])
def test_invalid_names_cause_no_request(hub: LoopbackHub, name: str) -> None:
    with pytest.raises(InputError, match="can't be the name"):
        static_model().push_to_hub(name, ADA, endpoint=hub.url)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["model", "ada/model", "ada-l/m2v_1.0", "A/b"])
def test_valid_names(name: str) -> None:
    assert check_repo_id(name) == name


def test_a_folder_without_a_model_causes_no_request(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="contains no model"):
        push_folder(tmp_path, "ada/model", token=ADA, endpoint=hub.url)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "said"),
    [(None, "401.*Sign in"), ("hf_wrong", "401.*Sign in"), (READER, "403.*no write access"), (STRANGER, "403")],
)
def test_tokens_without_permission(hub: LoopbackHub, model_folder: Path, token: str | None, said: str) -> None:
    with pytest.raises(HubError, match=said) as caught:
        push_folder(model_folder, "ada/model", token=token, endpoint=hub.url)
    assert "hf_" not in str(caught.value)
    assert not hub.has("model", "ada/model")


def test_no_account_and_no_owner(hub: LoopbackHub, model_folder: Path) -> None:
    with pytest.raises(HubError, match="you are not signed in"):
        push_folder(model_folder, "model", endpoint=hub.url)


def test_a_private_repository_of_another_account_with_that_name(hub: LoopbackHub, model_folder: Path) -> None:
    hub.add("lab/model", {"config.json": b"{}"}, private=True)
    with pytest.raises(HubError, match="403"):
        push_folder(model_folder, "lab/model", token=STRANGER, endpoint=hub.url)
    assert on_hub(hub, "lab/model") == {"config.json": b"{}"}


def test_a_card_that_the_hub_rejects(hub: LoopbackHub, model_folder: Path) -> None:
    with pytest.raises(InputError, match="license.*must be one of"):
        push_folder(model_folder, "ada/model", token=ADA, card="---\nlicense: none\n---\n", endpoint=hub.url)
    assert "/api/repos/create" not in hub.paths("POST"), "it is rejected before anything is created"


FAULTS = {
    "refused": {"read_bytes": 0},
    "cut-in-upload": {"read_bytes": 40},
    "answer-lost": {"cut_after": 0},
    "500": {"status": 500},
    "503": {"status": 503},
    "429": {"status": 429, "headers": {"Retry-After": "7"}},
    "401": {"status": 401},
    "403": {"status": 403},
    "409": {"status": 409},
}
REQUESTS = {
    "info": ("GET", r"^/api/models/ada/model$"),
    "create": ("POST", "/api/repos/create"),
    "validate": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/upload/"),
    "verify": ("POST", "/lfs/verify"),
    "commit": ("POST", "/commit/"),
}
PASSING = ("refused", "cut-in-upload", "answer-lost", "500", "503", "429")


@pytest.mark.parametrize(
    ("request_kind", "fault"),
    # If the response to a commit is lost, the second attempt finds the first one's files: see the next test.
    [pair for pair in product(REQUESTS, FAULTS) if pair != ("commit", "answer-lost")],
)
def test_each_request_fails_for_good_and_the_next_push_succeeds(
    hub: LoopbackHub, model_folder: Path, waits: list[float], request_kind: str, fault: str
) -> None:
    method, pattern = REQUESTS[request_kind]
    before = content(model_folder)
    with (
        hub.failing(pattern, methods=(method,), **FAULTS[fault]),
        pytest.raises((HubError, InputError)) as caught,
    ):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=lambda event: None)
    assert content(model_folder) == before, "the model is still on disk"
    if (request_kind, fault) == ("create", "answer-lost"):
        assert on_hub(hub) == {}, "the creator of the repository is unknown, and it is empty"
    else:
        assert not hub.has("model", "ada/model"), "the Hub was changed"
        assert "Nothing was sent" in str(caught.value)
    message = str(caught.value)
    assert message.startswith("ada/model could not be published")
    if fault.isdecimal():
        assert fault in message
    else:
        assert "can't be reached" in message
    assert "again" in message or "token" in message or "account" in message
    assert ADA not in message

    again = push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    assert again.verified
    assert on_hub(hub) == before


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("request_kind", REQUESTS)
def test_each_request_fails_once_and_the_push_succeeds(
    hub: LoopbackHub, model_folder: Path, waits: list[float], request_kind: str, fault: str
) -> None:
    method, pattern = REQUESTS[request_kind]
    with hub.failing(pattern, methods=(method,), times=1, **FAULTS[fault]):
        pushed = push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=lambda event: None)
    assert pushed.verified
    assert on_hub(hub) == content(model_folder)
    assert waits
    if fault == "429":
        assert max(waits) >= 7, "the Hub's own figure counts"
    assert len(hub.repo("ada/model").commits) == 2, "and nothing was committed twice"


def test_a_response_that_is_lost_while_overwriting(hub: LoopbackHub, model_folder: Path, waits: list[float]) -> None:
    hub.add("ada/model", {"embeddings.safetensors": b"old"})
    with hub.failing("/commit/", cut_after=0, times=1):
        assert push_folder(model_folder, "ada/model", token=ADA, overwrite=True, endpoint=hub.url).verified
    assert on_hub(hub) == content(model_folder)
    assert len(hub.repo("ada/model").commits) == 2


def test_a_concurrent_push_is_not_overwritten(hub: LoopbackHub, model_folder: Path) -> None:
    def interfere(event: Progress) -> None:
        if event.stage == "upload" and "theirs.txt" not in hub.files("ada/model"):
            hub.add("ada/model", {"theirs.txt": b"theirs"})

    with pytest.raises(HubError, match="412.*was changed in the meantime"):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=interfere)
    assert on_hub(hub) == {"theirs.txt": b"theirs"}


def test_a_pull_request_is_not_opened_twice(hub: LoopbackHub, model_folder: Path, waits: list[float]) -> None:
    hub.add("ada/model", {"embeddings.safetensors": b"old"})
    with (
        hub.failing("/commit/", cut_after=0, times=1),
        pytest.raises(HubError, match="check whether it exists"),
    ):
        push_folder(model_folder, "ada/model", token=ADA, create_pr=True, endpoint=hub.url)
    assert len(hub.repo("ada/model").pull_requests) == 1


def test_a_wait_too_long_is_rejected(hub: LoopbackHub, model_folder: Path, waits: list[float]) -> None:
    with (
        hub.failing("/commit/", status=429, headers={"Retry-After": "3600"}),
        pytest.raises(HubError, match="429.*Wait a few minutes"),
    ):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    assert not waits


@pytest.mark.parametrize("fault", [{"status": 403}, {"read_bytes": 0}], ids=str)
def test_a_repository_that_can_not_be_deleted_remains(
    hub: LoopbackHub, model_folder: Path, waits: list[float], fault: dict[str, int]
) -> None:
    with (
        hub.failing("/commit/", status=403),
        hub.failing("/api/repos/delete", methods=("DELETE",), **fault),
        pytest.raises(HubError, match="403.*remains on the Hub, empty"),
    ):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    assert on_hub(hub) == {}


def test_a_commit_whose_response_is_lost_is_not_deleted(
    hub: LoopbackHub, model_folder: Path, waits: list[float]
) -> None:
    cancel = threading.Event()

    def stop(event: Progress) -> None:
        if "/api/models/ada/model/commit/main" in hub.paths("POST"):
            cancel.set()

    with hub.failing("/commit/", cut_after=0), pytest.raises(Cancelled, match="has files"):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=stop, cancel=cancel)
    assert on_hub(hub) == content(model_folder)


def test_the_result_states_the_visibility(hub: LoopbackHub, model_folder: Path) -> None:
    hub.add("ada/public", {".gitattributes": b""})
    assert not push_folder(model_folder, "ada/public", token=ADA, endpoint=hub.url, private=True).private
    assert push_folder(model_folder, "ada/new", token=ADA, endpoint=hub.url, private=True).private
    assert not push_folder(model_folder, "ada/open", token=ADA, endpoint=hub.url, private=False).private


def test_uploaded_files_are_not_sent_again(hub: LoopbackHub, model_folder: Path, waits: list[float]) -> None:
    hub.add("ada/model", {".gitattributes": b""})
    with hub.failing("/commit/", status=403), pytest.raises(HubError, match="Nothing was sent"):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    assert hub.has("model", "ada/model"), "it was there before"
    assert len(hub.paths("PUT")) == 1
    push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    assert len(hub.paths("PUT")) == 1


def test_large_files_are_uploaded_in_parts(hub: LoopbackHub, model_folder: Path) -> None:
    hub.part_bytes = (model_folder / "model.safetensors").stat().st_size // 3
    events: list[Progress] = []
    pushed = push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=events.append)
    assert pushed.verified
    assert len(hub.paths("PUT")) == 4
    assert on_hub(hub) == content(model_folder)


def test_progress_counts_each_byte_once(hub: LoopbackHub, model_folder: Path, waits: list[float]) -> None:
    events: list[Progress] = []
    with hub.failing("/upload/", status=500, times=2):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=events.append)
    total = sum(map(len, content(model_folder).values()))
    for stage in ("upload", "verify"):
        of_stage = [event for event in events if event.stage == stage]
        assert {event.total for event in of_stage} == {total}
        done = [event.done for event in of_stage]
        assert done == sorted(done)
        assert done[-1] == total
    assert list(dict.fromkeys(event.stage for event in events)) == ["connect", "upload", "verify"]


@pytest.mark.parametrize("stage", ["connect", "upload"])
def test_a_cancelled_push_leaves_no_incomplete_model(hub: LoopbackHub, model_folder: Path, stage: str) -> None:
    cancel = threading.Event()

    def stop(event: Progress) -> None:
        if event.stage == stage and (stage == "connect" or event.done > 0):
            cancel.set()

    with pytest.raises(Cancelled, match="Cancelled"):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, progress=stop, cancel=cancel)
    assert not hub.has("model", "ada/model") or on_hub(hub) == {}
    assert push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url).verified


def test_cancel_ends_a_wait(hub: LoopbackHub, model_folder: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    with hub.failing("/api/repos/create", status=429, headers={"Retry-After": "50"}), pytest.raises(Cancelled):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url, cancel=cancel)


def test_a_hub_that_loses_bytes_is_detected(hub: LoopbackHub, model_folder: Path, monkeypatch) -> None:
    commit = LoopbackHub.commit

    def lossy(self, repo, files, revision="main"):
        return commit(self, repo, {path: data[:-1] if "config" in path else data for path, data in files.items()})

    monkeypatch.setattr(LoopbackHub, "commit", lossy)
    with pytest.raises(HubError, match=r"config\.json on ada/model differs"):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)


def test_a_push_that_can_not_be_verified_logs_a_warning(
    hub: LoopbackHub, model_folder: Path, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with hub.failing("/resolve/", status=500):
        pushed = push_folder(model_folder, "ada/model", token=ADA, endpoint=hub.url)
    assert not pushed.verified
    assert on_hub(hub) == content(model_folder)
    assert "could not be verified" in caplog.text


def test_a_hub_that_is_down(model_folder: Path, waits: list[float]) -> None:
    with LoopbackHub() as down:
        pass
    with pytest.raises(HubError, match="can't be reached to look it up.*Nothing was sent"):
        push_folder(model_folder, "ada/model", token=ADA, endpoint=down.url)


def test_without_progress_the_client_can_use_xet(hub: LoopbackHub, model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    weights = (model_folder / "model.safetensors").read_bytes()
    hub.xet_folder = tmp_path / "cas"
    hub.xet_folder.mkdir()
    hub.blobs[hashlib.sha256(weights).hexdigest()] = (
        weights  # the test server, unlike the Hub, can't look up blobs by hash
    )
    code = (
        "import sys; from pathlib import Path; from m2v_core.hub.push import push_folder;"
        "assert push_folder(Path(sys.argv[1]), 'ada/model', token=sys.argv[2]).verified"
    )
    environment = {**os.environ, **client_environment(hub.url, tmp_path / "home"), "HF_HUB_DISABLE_XET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(model_folder), ADA],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [path for path in hub.paths() if "/xet-write-token/" in path]
    assert hub.paths("PUT") == []
    assert [path for path in hub.xet_folder.rglob("*") if path.is_file()]
    assert on_hub(hub) == content(model_folder)
