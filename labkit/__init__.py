"""Choose a network, train it live, look at what it learned.

Names are loaded on first use (PEP 562), so that `labkit.Spec` imports no torch; `__init__.pyi` lists them for editors.
"""

import tomllib
from importlib import import_module, metadata
from pathlib import Path

_HOMES = {
    "Spec": "core.spec",
    "cost": "core.costs",
    "load_data": "core.data",
    "load_table": "core.tables",
    "Trainer": "core.trainer",
    "Run": "core.runs",
    "train": "core.runs",
    "load_run": "core.runs",
    "accuracy": "core.losses",
    "r_squared": "core.losses",
    "signal": "core.activation_stats",
    "random_directions": "landscape.directions",
    "principal_directions": "landscape.directions",
    "between": "landscape.directions",
    "LossEvaluator": "landscape.evaluator",
    "plane": "landscape.planes",
    "refine": "landscape.planes",
    "line": "landscape.planes",
    "load_plane": "landscape.planes",
    "trail": "landscape.trajectories",
    "window_around": "landscape.trajectories",
    "sharpness": "landscape.hessian",
    "sharpness_along": "landscape.hessian",
    "eigenpairs": "landscape.hessian",
    "hessian_directions": "landscape.hessian",
    "fit_bezier": "landscape.mode_connectivity",
    "align_units": "landscape.mode_connectivity",
    "explore": "lab.explorer",
    "Lab": "lab.session",
    "report": "reports.report",
    "sweep": "reports.sweep",
}
_CORE = ("costs", "data", "devices", "forecast", "losses", "network", "optimizers", "spec", "tables")
_MODULES = {name: f"core.{name}" for name in _CORE}
_MODULES |= {name: f"landscape.{name}" for name in ("directions", "hessian")}
_MODULES |= {name: f"plots.{name}" for name in ("charts", "theme")}
_EARLIER = {"curve": "fit_bezier", "matched": "align_units", "planner": "forecast"}  # older notebooks keep working
__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    name = _EARLIER.get(name, name)
    if name in _MODULES:
        return import_module(f"labkit.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"labkit has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"labkit.{_HOMES[name]}"), name)


def _version() -> str:
    """Return the installed version, or what pyproject.toml says where labkit is only on the path."""
    try:
        return metadata.version("labkit")
    except metadata.PackageNotFoundError:
        return tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]


def __dir__() -> list[str]:
    return __all__
