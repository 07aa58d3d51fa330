"""A model's card, and tiny versions published with it: texts that stand for weights."""

import errno
import os

from cspine.model.store.card import write_card
from cspine.model.store.hashes import hash_file
from cspine.model.store.registry import publish_version

CARD = {
    "schema_version": 1,
    "version": "0" * 12,
    "architecture": "cnn",
    "image_size": 192,
    "view": "vertebra",
    "map_head": True,
    "decision": {},
    "files": {},
    "class_names": ["normal", "fracture"],
}


def refuse(*_, **__):
    # What root would not meet in a file that nobody may read.
    raise PermissionError(errno.EACCES, "Permission denied")


def publish(folder, models, content, key=None):
    run = folder / f"run-{content}"
    run.mkdir()
    (run / "best.h5").write_text(content)
    (run / "best.xml").write_text(f"ir of {content}")
    files = {name: hash_file(run / name) for name in ("best.h5", "best.xml")}
    write_card(run, CARD | {"version": files["best.h5"][:12], "files": files}, key)
    version = publish_version(run, models)
    # Two versions may be published within one tick of the file system's clock.
    stamp = 10**18 + 10**9 * len(list(folder.glob("run-*")))
    os.utime(models / "versions" / version / "best.json", ns=(stamp, stamp))
    return version
