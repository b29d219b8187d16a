from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.space import SPACE, Stranger, Victim
from tests.live_app import ROOT, Server, start_app


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Somebody who has jobs and models on the Space."""
    made = Victim(tmp_path_factory.mktemp("space"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
        made.move_in()
    yield made
    made.move_out()


@pytest.fixture(scope="session")
def space(victim: Victim) -> Iterator[Server]:
    """The app as it runs on a public Space, whose owner has given it a token."""
    started = start_app(victim.home, SPACE)
    yield started
    started.stop()


@pytest.fixture
def stranger(space: Server) -> Stranger:
    return Stranger(space.address)


@pytest.fixture
def log(space: Server) -> Path:
    """What the app has printed."""
    return space.home / "server.log"
