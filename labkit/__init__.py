"""Choose a network, train it live, look at what it learned.

Names are loaded on first use (PEP 562), so that `labkit.Spec` costs no torch.
"""

from importlib import import_module

_HOMES = {
    "Spec": "spec",
    "cost": "costs",
    "load_data": "data",
    "load_table": "tables",
    "Trainer": "training",
    "Run": "runs",
    "train": "runs",
    "load_run": "runs",
    "train_sharded": "sharded",
    "random_directions": "directions",
    "principal_directions": "directions",
    "between": "directions",
    "plane": "landscape",
    "refine": "landscape",
    "line": "landscape",
    "load_plane": "landscape",
    "trail": "trails",
    "window_around": "trails",
    "sharpness": "curvature",
    "sharpness_along": "curvature",
    "eigenpairs": "curvature",
    "hessian_directions": "curvature",
    "curve": "connect",
    "matched": "connect",
    "accuracy": "losses",
    "r_squared": "losses",
    "signal": "signals",
    "explore": "explorer",
    "Lab": "live",
    "report": "reports",
    "sweep": "sweeps",
    "charts": "charts",
}
__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"labkit has no {name!r}; it has {', '.join(_HOMES)}")
    home = import_module(f"labkit.{_HOMES[name]}")
    return home if name == _HOMES[name] else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
