"""The library: each owner's models, in one folder per owner, visible only to that owner.

    library = Library("~/m2v/models", jobs=store)
    record = library.add_from_zip("model.zip", owner="ada")
    model = library.load(record.id, owner="ada")

A finished distillation is added automatically, with the id of its job, and remains when the job is removed;
`library.contents(owner)` lists the distillations that could not be added. All owners share the demo model.
"""

from m2v_core.studio.library.demo import DemoModel
from m2v_core.studio.library.library import Library
from m2v_core.studio.library.shelf import Contents, ModelRecord, Refusal

__all__ = ["Contents", "DemoModel", "Library", "ModelRecord", "Refusal"]
