"""The kernel's machine code: compiled once for a processor, kept in a folder of the user's, loaded by every process."""

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
from numba import float32, float64, int32, int64
from numba.core.caching import NullCache

from labkit.core import kernel, kernel_math, kernel_product, kernel_threads

FOLDER_VARIABLE = "LABKIT_CACHE"  # names another folder
PATIENCE = 2.0  # seconds after which a person is told what is waited for
ROW, ROWS, NUMBERS = float32[::1], float32[:, ::1], int64[::1]
SIGNATURES = {
    kernel.predict: (ROW, NUMBERS, NUMBERS, ROWS, ROWS),
    kernel.judge: (NUMBERS, float64[::1], int64, ROWS, NUMBERS, ROW),
    kernel.advance: (
        NUMBERS, ROWS, ROWS, ROWS, ROWS, float64[:, ::1], float64[::1], NUMBERS, NUMBERS, float64[::1],
        NUMBERS, float32[:, :, ::1], int64[:, ::1], ROWS, NUMBERS, int32[:, :, ::1], ROWS,
        ROW, ROW, ROW, ROW, ROW, ROWS, ROWS, ROW, float64[::1], NUMBERS, int64, int64,
    ),
    kernel.judge_members: (
        NUMBERS, ROWS, NUMBERS, NUMBERS, float64[::1], int64, NUMBERS, float32[:, :, ::1], int64[:, ::1], ROWS,
        float64[:, ::1],
    ),
}  # fmt: skip
SOURCE = hashlib.sha1(  # numba looks at the file of a function alone, not at those that it calls
    b"".join(
        Path(str(module.__file__)).read_bytes() for module in (kernel, kernel_math, kernel_product, kernel_threads)
    )
).hexdigest()[:10]
_LOCK, _LOADED = threading.Lock(), threading.Event()


def folder() -> Path:
    """Where the machine code is kept: a folder of the user's own, outside the package."""
    return _home() / f"kernel-{SOURCE}"


def _home() -> Path:
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    home = Path.home()
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return Path(base or home / ".cache") / "labkit"


def load() -> None:
    """Make the kernel ready: from the folder, or by compiling it (some 20 seconds), which is said in one line."""
    if _LOADED.is_set():
        return
    with _LOCK:
        if _LOADED.is_set():
            return
        words = "labkit makes its training loop ready for this processor; the first time, that takes some 20 seconds."
        teller = threading.Timer(PATIENCE, print, (words,), {"file": sys.stderr})
        teller.daemon = True
        teller.start()
        try:
            _compile(_trouble(folder()))
            _LOADED.set()
        finally:
            teller.cancel()


def seconds_to_load() -> float:
    """Load the kernel, and return how long that took."""
    began = time.perf_counter()
    load()
    return time.perf_counter() - began


def _trouble(place: Path) -> str:
    """Why nothing can be kept in a folder, or nothing; what others could write there is never loaded."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = place.stat()
        if hasattr(os, "getuid") and about.st_uid != os.getuid():
            return "it belongs to another user"
        return "" if os.access(place, os.W_OK) else "it is read-only"
    except OSError as error:
        return str(error.strerror)


def _compile(trouble: str) -> None:
    """Load or compile every function; where files are damaged or the disk is full, compile without them."""
    if not trouble:
        try:
            with _kept_in(folder()):
                for function, signature in SIGNATURES.items():
                    function.enable_caching()
                    function.compile(signature)
            return
        except Exception as error:  # a pickle that is damaged can raise anything
            trouble = f"{type(error).__name__}: {error}"
            _forget(folder())
    print(
        f"labkit cannot keep its compiled training loop in {folder()} ({trouble}), and compiles it for this process "
        f"alone. Name a folder of your own in the variable {FOLDER_VARIABLE}.",
        file=sys.stderr,
    )
    for function, signature in SIGNATURES.items():
        if not function.signatures:
            function._cache = NullCache()
            function.compile(signature)


@contextmanager
def _kept_in(place: Path) -> Iterator[None]:
    """Let numba choose a folder while caching is switched on, and leave its setting for others as it was."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(place)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def _forget(place: Path) -> None:
    """Take away files of the kernel that could not be read, so that the next process writes them anew."""
    for file in place.glob("**/kernel.*.nb[ci]"):
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    print(f"The training loop is ready ({seconds_to_load():.1f} s), kept in {folder()}.")
