"""Files written whole or not at all, and locked by one process at a time."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path


class OutputLocked(RuntimeError):
    """Another process is writing the output."""


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: if there is no room, or no right to; an earlier file of that name is whole then.
    """
    write_together({path: text})


def write_together(texts: Mapping[Path, str]) -> None:
    """Write files that belong together: all of them are on the disk before the first is moved into its place.

    Raises:
        OSError: if there is no room for one of them, or no right to; earlier files of these names are whole then.
    """
    ready: dict[Path, str] = {}
    try:
        for path, text in texts.items():
            handle, ready[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            # Lone surrogates, as names of files may hold, are backslash-escaped.
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(ready[path], 0o644)  # mkstemp's files are shut to everybody else
        for path, name in ready.items():
            os.replace(name, path)
    finally:  # Ctrl-C too
        for name in ready.values():
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Lock an output while it is made; the lock ends with the process, however that ends.

    Raises:
        OutputLocked: if another process has locked it, naming that one.
    """
    from filelock import FileLock, Timeout

    holder = path.with_name(f".{path.stem}.holder")
    own = FileLock(path.with_name(f".{path.stem}.lock"), timeout=0)
    try:
        own.acquire()
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another run"
        raise OutputLocked(f"{path} is being written by {who}. Wait for it, or choose another folder.") from None
    try:
        holder.write_text(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        own.release()
