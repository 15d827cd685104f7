"""Tables that a person drops on the lab: kept as files in a folder of their own, so that a spec can name them."""

import hashlib
import re
import tempfile
from pathlib import Path


def keep(name: str, text: str) -> Path:
    """Write a table and return where it is; the same table is kept once."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"labkit-tables-{Path.home().name}" / digest
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.-]", "_", Path(name).name) or "table.csv")
    path.write_text(text, "utf-8")
    return path
