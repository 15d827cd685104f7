"""The bits of the compiled loop on an emulated 64-bit ARM processor: `python tests/arm_bits.py FOLDER` (Linux, x86).

Debian's arm64 Python and aarch64 wheels are unpacked into the folder (some 600 MB) and run by qemu's user emulation.
Nothing is installed on this machine. It takes some minutes; the result stands in docs/benchmarks.md.
"""

import json
import lzma
import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEBIAN = "http://deb.debian.org/debian"
SUITE = "bookworm"  # whose Python is 3.11
EMULATOR = "qemu-user-static"
DEBS = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libssl3",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    "libsqlite3-0",
    "libncursesw6",
    "libtinfo6",
    "libreadline8",
    "libcrypt1",
    "libdb5.3",
]
WHEELS = [
    "torch==2.10.0",
    "numpy",
    "numba",
    "llvmlite",
    "safetensors",
    "psutil",
    "tqdm",
    "scipy",
    "scikit-learn",
    "joblib",
    "cloudpickle",
    "narwhals",
    "threadpoolctl",
    "typing-extensions",
    "sympy",
    "mpmath",
    "filelock",
    "networkx",
    "jinja2",
    "markupsafe",
    "fsspec",
    "packaging",
]  # torch 2.10 is the last whose wheel for ARM holds no CUDA


def packages(architecture):
    """Debian's packages by name → address."""
    address = f"{DEBIAN}/dists/{SUITE}/main/binary-{architecture}/Packages.xz"
    text = lzma.decompress(urllib.request.urlopen(address).read()).decode()
    return dict(re.findall(r"^Package: (.+)$(?:\n.+)*?\nFilename: (.+)$", text, re.MULTILINE))


def unpack(names, architecture, place):
    """Unpack Debian packages into a folder."""
    there = packages(architecture)
    for name in names:
        deb = place / f"{name}.deb"
        urllib.request.urlretrieve(f"{DEBIAN}/{there[name]}", deb)
        subprocess.run(["dpkg", "-x", deb, place], check=True)
        deb.unlink()


def prepare(place):
    """Bring an ARM machine's Python, its packages and an emulator."""
    unpack(DEBS, "arm64", place / "arm")
    unpack([EMULATOR], "amd64", place / "host")
    platforms = [f"--platform=manylinux{version}_aarch64" for version in ("_2_28", "_2_27", "_2_17", "2014")]
    kinds = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", *platforms]
    (place / "wheels").mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *kinds, "-d", place / "wheels", *WHEELS], check=True)
    for wheel in (place / "wheels").glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(place / "packages")


def main(place):
    """Train every spec of `core/kernel_bits.py` there, and compare."""
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "packages").exists():
        for part in ("arm", "host"):
            (place / part).mkdir(exist_ok=True)
        prepare(place)
    paths = [place / "packages", ROOT, ROOT / "tests" / "core"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "LABKIT_CACHE": str(place / "cache")}
    command = [place / "host/usr/bin/qemu-aarch64-static", "-L", place / "arm", place / "arm/usr/bin/python3.11", "-c"]
    code = (
        "import json, platform, kernel_bits; print(platform.machine()); print(json.dumps(kernel_bits.fingerprints()))"
    )
    done = subprocess.run([*command, code], env=env, stdout=subprocess.PIPE, text=True, check=True)
    machine, found = done.stdout.splitlines()
    found, recorded = json.loads(found), json.loads((ROOT / "tests/core/kernel_bits.json").read_text())
    for name, bits in recorded.items():
        print(f"{name:<24} {bits[:10]} {'the same' if found[name] == bits else 'OTHER: ' + found[name][:10]}")
    same = sum(found[name] == bits for name, bits in recorded.items())
    print(f"{machine}: {same} of {len(recorded)} have the recorded bits.")
    return same != len(recorded)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
