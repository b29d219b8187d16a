"""Where the kernels come from: an image that is checked before it runs, numba where that can't be, or nowhere."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding, ir

from m2v_core.encoder import image, native
from m2v_core.encoder.linking import LinkError, linked
from tests.core.encoder import forms
from tests.core.encoder.test_vectors import KINDS, TEXTS, table_of
from tests.static_models import static_model

pytestmark = pytest.mark.skipif(image.why_not_here() is not None, reason="images are for Linux on x86-64")
OTHERS = ["eins zwei drei", "\xe4\xf6\xfc und mehr \U0001f984", "the [MASK] ice cream " * 30, "w" * 300]
RESULTS = """
import sys
import numpy as np
from tests.core.encoder.test_native import results
np.savez(sys.argv[1], *results())
print("numba" in sys.modules)
"""
LARGE = """
import logging, sys
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING, stream=sys.stdout)
from m2v_core.encoder import native
from m2v_core.model import StaticModel
model = StaticModel.from_pretrained(sys.argv[1])
texts = [f"the sea and the fox and {i}" for i in range(100_000)]
first = model.encode(texts)
print(native.kernels_ready(may_build=False), "m2v_core.encoder.run" in sys.modules)
print(native.kernels_ready(wait=True))
second = model.encode(texts)
alone = [model.encode(text) for text in texts[::999]]
assert abs(first - second).max() < 1e-6 and abs(first[::999] - alone).max() < 1e-6
print(bool({"numba", "llvmlite"} & set(sys.modules)), "m2v_core.encoder.run" in sys.modules)
"""


def results() -> list[np.ndarray]:
    """What every kind of table gives for texts with all that a kernel may meet, and the ids of their tokens."""
    from tests.core.encoder.paths import PATHS

    found = []
    tokenizer = forms.tokenizer("BERT uncased")
    for kind in KINDS:
        for is_weighted, is_mapped in ((False, False), (True, False), (True, True)):
            engine = PATHS["kernel"](table_of(kind, 37, is_weighted, is_mapped), tokenizer, 3)
            for _ in "cold", "warm":
                found.append(engine.embeddings([*TEXTS, *OTHERS], None, True))
                found.append(np.concatenate(engine.token_ids([*TEXTS, *OTHERS], 100)))
    return found


def said_by(script: str, *arguments: object, **variables: str) -> list[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def begin(script: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables})


@pytest.fixture(scope="session")
def content() -> bytes:
    """A good image for this machine."""
    (path, *_) = [path for place in image.folders() if (path := place / image.file_name()).is_file()]
    return path.read_bytes()


@pytest.fixture
def copied(content, tmp_path, monkeypatch) -> Path:
    """It, in the only place that this process looks at."""
    monkeypatch.setattr(image, "folders", lambda: iter([tmp_path / "images"]))
    path = image.folder_to_write() / image.file_name()
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_both_compilers_give_the_same_bits(tmp_path):
    ours = tmp_path / "image.npz"
    assert said_by(RESULTS, ours) == ["False"]
    variables = {"M2V_KERNELS": "numba", "XDG_CACHE_HOME": str(tmp_path)}
    with np.load(ours) as expected:
        for name in ("compiled.npz", "kept.npz"):
            assert said_by(RESULTS, tmp_path / name, **variables) == ["True"]
            with np.load(tmp_path / name) as found:
                assert found.files == expected.files
                for key in expected.files:
                    np.testing.assert_array_equal(found[key], expected[key])
    assert list(tmp_path.glob("m2v-studio/numba-*/**/*.nbi"))


def test_a_good_image_is_loaded(copied):
    assert set(image.load().entries) == set(native.Kernels._fields) - {"reads_halves", "memory"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:2_000] + bytes([content[2_000] ^ 0x80]) + content[2_001:],
    ],
)
def test_a_damaged_image_is_not_run(copied, spoil):
    copied.write_bytes(spoil(copied.read_bytes()))
    with pytest.raises(image.ImageError, match="is damaged"):
        image.load()


def test_an_image_for_something_else_is_not_run(copied, monkeypatch):
    other = copied.with_name("kernels-other.bin")
    copied.rename(other)
    with pytest.raises(image.ImageError, match="there is no image yet"):
        image.load()
    monkeypatch.setattr(image, "file_name", lambda: other.name)
    with pytest.raises(image.ImageError, match="is not what its name says"):
        image.load()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_not_run(copied, mode):
    copied.chmod(mode)
    with pytest.raises(image.ImageError, match="somebody else"):
        image.load()
    copied.chmod(0o600)
    copied.parent.chmod(0o770)
    with pytest.raises(image.ImageError, match="somebody else"):
        image.load()
    with pytest.raises(image.ImageError, match="no folder of one's own"):
        image.folder_to_write()


def test_a_link_is_not_followed(copied):
    target = copied.rename(copied.with_name("target"))
    copied.symlink_to(target)
    with pytest.raises(image.ImageError):
        image.load()


def test_a_file_in_place_of_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert image.folder_to_write() == tmp_path / f"m2v-studio-{os.geteuid()}"
    assert image.folder_to_write().stat().st_mode & 0o777 == 0o700


def test_a_second_builder_takes_what_the_first_made(copied):
    made = copied.read_bytes()
    copied.unlink()
    script = (
        "import sys; from pathlib import Path; from m2v_core.encoder import compiling, image\n"
        "folder = Path(sys.argv[1]); image.folders = lambda: iter([folder])\n"
        "compiling.object_file = lambda: sys.exit('built again'); print('begins', flush=True)\n"
        "compiling.build(folder)"
    )
    with image.sole_builder(copied.parent):
        second = begin(script, copied.parent)
        assert second.stdout is not None
        assert second.stdout.readline() == "begins\n"
        copied.write_bytes(made)
        copied.chmod(0o600)
    assert second.wait(60) == 0
    second.stdout.close()


def test_nobody_waits_for_the_image(tmp_path):
    """Two processes without an image encode at once, and have one afterwards; a damaged one is replaced."""
    static_model("WordPiece").save_pretrained(tmp_path / "model")
    (tmp_path / "m2v-studio").mkdir(mode=0o700)
    (tmp_path / "m2v-studio" / image.file_name()).write_bytes(b"damaged")
    both = [begin(LARGE, tmp_path / "model", XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path)) for _ in range(2)]
    for process in both:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert said.splitlines()[1:] == ["True", "False True"]
        assert said.splitlines()[0] in ("False False", "True False", "True True")  # it may have come meanwhile
    files = {path.name for path in (tmp_path / "m2v-studio").iterdir()}
    assert files == {image.file_name(), "lock"}


def test_without_any_compiler_texts_are_read_all_the_same(tmp_path):
    static_model("WordPiece").save_pretrained(tmp_path / "model")
    (tmp_path / "numba.py").write_text("raise RuntimeError('a broken compiler')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    said = said_by(LARGE, tmp_path / "model", XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path), PYTHONPATH=path)
    assert [line for line in said if not line.startswith("WARNING")] == ["False False", "False", "True False"]
    (warning,) = [line for line in said if line.startswith("WARNING")]
    assert warning.count("RuntimeError: a broken compiler") == 2  # in the process that builds, and in this one


def test_off_is_off():
    script = "from m2v_core.encoder.native import kernels_ready; print(kernels_ready(wait=True))"
    assert said_by(script, M2V_KERNELS="off") == ["False"]


def test_kernels_that_are_not_there_are_not_given(monkeypatch):
    monkeypatch.setattr(native._native, "kernels", None)
    with pytest.raises(RuntimeError, match="kernels_ready"):
        native.kernels()


def test_where_nothing_may_be_made_executable_numba_compiles(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    ours = native._Native()
    monkeypatch.setattr(image, "why_not_here", lambda: "this is a test")
    monkeypatch.setattr(image, "folders", lambda: iter([]))
    ours.prepare(may_build=False, wait=True)
    assert ours.kernels is None
    ours.prepare(may_build=True, wait=True)
    assert ours.kernels is not None
    assert "compiled in this process: this is a test" in caplog.text
    bounds = np.array([0, 1, 3])
    ours.kernels.to_bytes(np.frombuffer("\xe9ab".encode() + bytes(8), np.uint8), bounds, 3)
    assert bounds.tolist() == [0, 2, 4]


def object_file(build) -> bytes:
    """An object file with the function `f`, of whatever `build` puts into it."""
    module = ir.Module()
    number = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(number, [number]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(build(module, builder, function.args[0]))
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="small")
    return machine.emit_object(binding.parse_assembly(str(module)))


def calls(name):
    def build(module, builder, argument):
        called = ir.Function(module, ir.FunctionType(ir.IntType(64), [ir.IntType(64)]), name)
        return builder.call(called, [argument])

    return build


def has_memory(module, builder, argument):
    variable = ir.GlobalVariable(module, ir.IntType(64), "variable")
    variable.initializer = ir.Constant(ir.IntType(64), 7)
    variable.linkage = "internal"
    before = builder.load(variable)
    builder.store(argument, variable)
    return before


def has_constants(module, builder, argument):
    kind = ir.ArrayType(ir.IntType(64), 5)
    constants = ir.GlobalVariable(module, kind, "constants")
    constants.initializer = ir.Constant(kind, [3, 1, 4, 1, 5])
    constants.global_constant = True
    constants.linkage = "internal"
    return builder.load(builder.gep(constants, [ir.Constant(ir.IntType(64), 0), argument]))


def test_code_finds_its_constants():
    made = linked(object_file(has_constants), ["f"])
    description = {"entries": {"f": (made.symbols["f"], 1)}, "addresses": made.addresses, "reads_halves": False}
    loaded = image._in_memory(description, made.image)
    f = native._callable_of(loaded.entries["f"])
    assert [f(i) for i in range(5)] == [3, 1, 4, 1, 5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (object_file(calls("puts")), "puts is not in the image"),
        (object_file(has_memory), "neither code nor constants"),
        (object_file(has_constants)[:200], "damaged|neither|lacks"),
        (b"\x7fELF", "Not an object file"),
        (b"", "Not an object file"),
    ],
)
def test_what_is_not_understood_becomes_no_image(content, said):
    with pytest.raises(LinkError, match=said):
        linked(content, ["f"])


def test_a_missing_function_is_named():
    with pytest.raises(LinkError, match="lacks g"):
        linked(object_file(has_constants), ["f", "g"])
