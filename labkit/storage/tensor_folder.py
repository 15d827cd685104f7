"""A folder of tensors and facts, written whole or not at all and read only if undamaged.

Tensors go to safetensors, which runs no code when it is read; facts go to JSON, with a checksum over both.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

FORMAT = 1


def write(folder: str | os.PathLike[str], kind: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Write a folder; an earlier one there goes only once this one is whole.

    Args:
        folder: Where to.
        kind: What is in it, such as "run"; it names the two files.
        tensors: What goes to safetensors.
        facts: What goes to JSON.

    Raises:
        FileExistsError: if the folder is there and holds something else.
    """
    from safetensors.torch import save_file

    folder, names = Path(folder), {f"{kind}.json", f"{kind}.safetensors"}
    if folder.exists() and not (folder.is_dir() and {each.name for each in folder.iterdir()} <= names):
        raise FileExistsError(f"{folder} exists and holds something else than a {kind}. Choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    made.chmod(0o755)  # mkdtemp's folders are shut to everybody else
    earlier = made.with_name(f"{made.name}-earlier")
    try:
        whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # safetensors shares no memory
        save_file(whole, made / f"{kind}.safetensors")
        facts = {"format": FORMAT, **facts}
        digest = _digest(facts, (made / f"{kind}.safetensors").read_bytes())
        (made / f"{kind}.json").write_text(_text({**facts, "sha256": digest}))
        if folder.exists():
            os.replace(folder, earlier)
        os.replace(made, folder)
    except BaseException:  # Ctrl-C too
        if earlier.exists():
            os.replace(earlier, folder)
        shutil.rmtree(made, ignore_errors=True)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
    return folder


def read(folder: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and facts of a folder that `write` made.

    Raises:
        ValueError: if there is no such folder, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    try:
        text = (folder / f"{kind}.json").read_text()
        facts = json.loads(text)
        raw = (folder / f"{kind}.safetensors").read_bytes()
        if facts["format"] != FORMAT:
            raise ValueError(f"it is of format {facts['format']!r} and this labkit reads {FORMAT}")
        if text != _text(facts) or facts.pop("sha256") != _digest(facts, raw):
            raise ValueError("its checksum differs")
        return load(raw), facts
    except OSError as error:
        raise ValueError(f"{folder} holds no saved {kind}: {Path(error.filename).name} is missing or shut.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise ValueError(f"the {kind} in {folder} cannot be read: {error}. Take another copy of it.") from None


def _text(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=1)


def _digest(facts: dict[str, Any], raw: bytes) -> str:
    """The checksum of all that is in the two files."""
    return hashlib.sha256(json.dumps(facts).encode() + raw).hexdigest()
