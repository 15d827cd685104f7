"""What this machine has, what the lab will use, and why: a few short lines and one sentence of what to do."""

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
    """What was found, and if the lab cannot run because of it, what to do."""

    about: str
    words: str
    remedy: str = ""


def doctor() -> int:
    """Print the findings; return 0 if the lab can run, else 1."""
    remedies = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns of, an old driver or GPU, is said below in words
        for finding in examine():
            print(f"{finding.about:<10} {finding.words}", flush=True)
            remedies += [finding.remedy] if finding.remedy else []
    print(f"\nTo do: {remedies[0]}." if remedies else "\nAll well: `make lab` opens the playground.")
    return 1 if remedies else 0


def examine() -> Iterator[Finding]:
    """Look at one thing after another; without torch there is nothing more to look at than parts."""
    yield Finding("labkit", __version__)
    yield _python()
    yield from _parts()
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
    yield _trial()


def _python() -> Finding:
    own = Path(sys.prefix).resolve() == (ROOT / ".venv").resolve()
    return Finding("Python", f"{platform.python_version()}, {'the lab’s own .venv' if own else f'of {sys.prefix}'}")


# Parts. Versions are compared here: `packaging` comes with Jupyter, which may be the part that is missing.


def bounds() -> dict[str, str]:
    """Return what the lab needs and from which version on, as pyproject.toml says."""
    try:
        lines = metadata.requires("labkit") or []
    except metadata.PackageNotFoundError:  # run from its folder, not installed
        lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pairs = [line.partition(">=") for line in lines if "extra ==" not in line]
    return {name.strip(): bound.strip() for name, _, bound in pairs}


def installed(name: str) -> str:
    """Return a package's version, or nothing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: 2.13.0+cpu → (2, 13, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))


def _parts() -> Iterator[Finding]:
    """The versions that matter most, then what is missing or too old among all."""
    needs = bounds()
    have = {name: installed(name) for name in needs}
    for about, names in (("Jupyter", NAMED[:3]), ("pictures", NAMED[3:])):
        yield Finding(about, ", ".join(f"{name} {have.get(name) or 'missing'}" for name in names))
    faults = [f"{name} is missing" for name in needs if not have[name]]
    faults += [
        f"{name} {have[name]} is older than {bound}"
        for name, bound in needs.items()
        if have[name] and _release(have[name]) < _release(bound)
    ]
    yield Finding("parts", ", ".join(faults) or f"all {len(needs)} are there and new enough", INSTALL if faults else "")


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return Finding("browser", f"{found}, for the browser tests" if found else "no Chromium: browser tests are skipped")


# Devices


def _gpu() -> Finding:
    """Name the GPU; where there is none to use, the line below says why, unless the driver knows better."""
    import torch

    from labkit.core import devices

    found, there = devices.available(), _driver()
    if "cuda" in found:
        major, minor = torch.cuda.get_device_capability()
        driver = f", driver {there[1]}" if there else ""
        return Finding("GPU", f"{found['cuda']}, compute capability {major}.{minor}{driver}")
    return Finding("GPU", found.get("mps") or (there and _driver_misfit(*there)) or "none to use")


def _driver() -> tuple[str, str] | None:
    """The GPU's name and its driver's version, as the driver itself says."""
    ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
        name, version = said.splitlines()[0].split(", ")
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):  # no driver, or one that does not answer
        return None
    return name, version


def _driver_misfit(name: str, version: str) -> str:
    """Say whether torch's build or the driver's age keeps torch from a GPU that is here; else nothing."""
    import torch

    if torch.version.cuda is None:
        return f"{name} is here, but this torch was built without CUDA; {OTHER_TORCH}."
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
    rule = f"one thread for every {share} million operations in a step, {most} at most"
    yield Finding("processor", f"{os.cpu_count()} cores; {rule}")


def _trial() -> Finding:
    """Train a small network: that it works, and how fast."""
    try:
        from labkit.core.runs import train

        train(TRIAL.but(steps=50))  # what is loaded on first use is not speed
        run = train(TRIAL)
    except Exception as error:  # whatever keeps the lab from training is what was asked for
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = INSTALL if isinstance(error, ImportError) else 'try device="cpu", and send the line above to the lab'
        return Finding("trial", f"training failed: {first}", remedy)
    rate = f"{run.steps / run.seconds:,.0f} steps/s on {run.where}"
    return Finding("trial", f"trained {TRIAL.depth} x {TRIAL.width} for {run.steps} steps: {rate}")
