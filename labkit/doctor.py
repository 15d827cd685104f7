"""What this machine has, what the lab will use and why, in a few lines, and what to do where something is missing."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from labkit import __version__
from labkit.core.spec import Spec

ROOT = Path(__file__).parent.parent
NAMED = ("jupyterlab", "ipykernel", "ipywidgets", "plotly", "anywidget", "papermill")  # whose versions are printed
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = {11: 450, 12: 525, 13: 580}  # CUDA → the oldest driver series it runs on (NVIDIA's release notes)
TRIAL = Spec(steps=500)
INSTALL = "run `make lab`, or in your own environment `pip install -c constraints.txt -e .` in the lab's folder"
OTHER_TORCH = "install another torch (https://pytorch.org/get-started/locally)"


class Finding(NamedTuple):
    """One line of the report; `remedy` says what to do where the lab cannot run because of it."""

    about: str
    words: str
    remedy: str = ""


def doctor() -> int:
    """Print the findings; return 0 if the lab can run, else 1."""
    remedies = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of an old driver or GPU; a line of the report explains it
        for finding in examine():
            print(f"{finding.about:<10} {finding.words}", flush=True)
            remedies += [finding.remedy] if finding.remedy else []
    print(f"\nTo do: {remedies[0]}." if remedies else "\nAll well: `make lab` opens the playground.")
    return 1 if remedies else 0


def examine() -> Iterator[Finding]:
    """Yield the findings in order; without torch, only those about Python, packages and the browser."""
    yield Finding("labkit", __version__)
    yield _python()
    yield from _packages()
    yield _browser()
    try:
        import torch
    except ImportError as error:
        yield Finding("PyTorch", f"cannot be imported: {error}", INSTALL)
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Finding("PyTorch", f"{torch.__version__}, {built}")
    yield _gpu()
    yield from _device()
    yield _kernel()
    yield _trial()


def _python() -> Finding:
    own = Path(sys.prefix).resolve() == (ROOT / ".venv").resolve()
    return Finding("Python", f"{platform.python_version()}, {'the lab’s own .venv' if own else f'of {sys.prefix}'}")


# Packages. Versions are compared by hand: `packaging` comes with Jupyter, which may be what is missing.


def bounds() -> dict[str, str]:
    """Return the packages that pyproject.toml requires and their lowest versions."""
    try:
        lines = metadata.requires("labkit") or []
    except metadata.PackageNotFoundError:  # run from its folder, not installed
        lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pairs = [line.partition(">=") for line in lines if "extra ==" not in line]
    return {name.strip(): bound.strip() for name, _, bound in pairs}


def installed(name: str) -> str:
    """Return a package's version, or "" where it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: 2.13.0+cpu → (2, 13, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))


def _packages() -> Iterator[Finding]:
    """The versions of the main packages, then every package that is missing or too old."""
    needs = bounds()
    have = {name: installed(name) for name in needs}
    for about, names in (("Jupyter", NAMED[:3]), ("charts", NAMED[3:])):
        yield Finding(about, ", ".join(f"{name} {have.get(name) or 'missing'}" for name in names))
    faults = [f"{name} is missing" for name in needs if not have[name]]
    faults += [
        f"{name} {have[name]} is older than {bound}"
        for name, bound in needs.items()
        if have[name] and _release(have[name]) < _release(bound)
    ]
    yield Finding(
        "packages", ", ".join(faults) or f"all {len(needs)} are there and new enough", INSTALL if faults else ""
    )


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return Finding("browser", f"{found}, for the browser tests" if found else "no Chromium: browser tests are skipped")


# Devices


def _gpu() -> Finding:
    """Name the GPU; where none can be used, `_device` says why, unless the driver gives the better reason."""
    import torch

    from labkit.core import devices

    found, there = devices.available(), _driver()
    if "cuda" in found:
        major, minor = torch.cuda.get_device_capability()
        driver = f", driver {there[1]}" if there else ""
        return Finding("GPU", f"{found['cuda']}, compute capability {major}.{minor}{driver}")
    return Finding("GPU", found.get("mps") or (there and _driver_misfit(*there)) or "none to use")


def _driver() -> tuple[str, str] | None:
    """The GPU's name and its driver's version, from the driver."""
    ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
        name, version = said.splitlines()[0].split(", ")
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):  # no driver, or one that does not answer
        return None
    return name, version


def _driver_misfit(name: str, version: str) -> str:
    """Say whether torch's build or an old driver keeps torch from using this GPU; else ""."""
    import torch

    if torch.version.cuda is None:
        return f"{name} was found, but this torch was built without CUDA; {OTHER_TORCH}."
    least = DRIVERS.get(int(torch.version.cuda.partition(".")[0]), 0)
    if int(version.partition(".")[0]) >= least:
        return ""
    return (
        f"driver {version} of the {name} is too old for CUDA {torch.version.cuda}, which needs {least} or newer; "
        f"update the driver or {OTHER_TORCH} of an older CUDA."
    )


def _device() -> Iterator[Finding]:
    """What the lab will use: device, memory, threads."""
    import torch

    from labkit.core import devices

    chosen = devices.choose("auto")
    yield Finding("uses", chosen.why)
    try:
        yield Finding("memory", f"{devices.free_bytes(chosen.device) / 2**30:.1f} GiB free")
    except ImportError as error:
        yield Finding("memory", f"unknown: {error.name} is missing")
    share, most = f"{devices.WORK_PER_THREAD / 1e6:.0f}", torch.get_num_threads()
    rule = f"one thread for every {share} million operations in a training step, at most {most}"
    yield Finding("processor", f"{os.cpu_count()} cores; {rule}")


def _kernel() -> Finding:
    """Whether the compiled training loop is ready, and where it is kept."""
    from labkit.core import kernel_cache

    seconds = kernel_cache.seconds_to_load()
    return Finding("kernel", f"the compiled training loop, ready after {seconds:.1f} s, in {kernel_cache.folder()}")


def _trial() -> Finding:
    """Train a small network, to see whether that works and how fast."""
    try:
        from labkit.core.runs import train

        train(TRIAL.but(steps=50))  # first use loads and compiles; that is not timed
        run = train(TRIAL)
    except Exception as error:  # any reason why training fails belongs in the report
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = (
            INSTALL if isinstance(error, ImportError) else 'try device="cpu", and report the line above as an issue'
        )
        return Finding("trial", f"training failed: {first}", remedy)
    rate = f"{run.steps / run.seconds:,.0f} steps/s on {run.where}"
    return Finding("trial", f"trained {TRIAL.depth} x {TRIAL.width} for {run.steps} steps: {rate}")
