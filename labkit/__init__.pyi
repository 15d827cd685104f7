"""What `labkit` offers, for editors and type checkers; `__init__.py` loads the same names on first use."""

from labkit.core import costs as costs
from labkit.core import data as data
from labkit.core import devices as devices
from labkit.core import forecast as forecast
from labkit.core import losses as losses
from labkit.core import network as network
from labkit.core import optimizers as optimizers
from labkit.core import spec as spec
from labkit.core import tables as tables
from labkit.core.activation_stats import signal as signal
from labkit.core.costs import cost as cost
from labkit.core.data import load_data as load_data
from labkit.core.losses import accuracy as accuracy
from labkit.core.losses import r_squared as r_squared
from labkit.core.runs import Run as Run
from labkit.core.runs import load_run as load_run
from labkit.core.runs import train as train
from labkit.core.spec import Spec as Spec
from labkit.core.tables import load_table as load_table
from labkit.core.trainer import Trainer as Trainer
from labkit.lab.explorer import explore as explore
from labkit.lab.session import Lab as Lab
from labkit.landscape import directions as directions
from labkit.landscape import hessian as hessian
from labkit.landscape.directions import between as between
from labkit.landscape.directions import principal_directions as principal_directions
from labkit.landscape.directions import random_directions as random_directions
from labkit.landscape.evaluator import LossEvaluator as LossEvaluator
from labkit.landscape.hessian import eigenpairs as eigenpairs
from labkit.landscape.hessian import hessian_directions as hessian_directions
from labkit.landscape.hessian import sharpness as sharpness
from labkit.landscape.hessian import sharpness_along as sharpness_along
from labkit.landscape.mode_connectivity import align_units as align_units
from labkit.landscape.mode_connectivity import fit_bezier as fit_bezier
from labkit.landscape.planes import line as line
from labkit.landscape.planes import load_plane as load_plane
from labkit.landscape.planes import plane as plane
from labkit.landscape.planes import refine as refine
from labkit.landscape.trajectories import trail as trail
from labkit.landscape.trajectories import window_around as window_around
from labkit.plots import charts as charts
from labkit.plots import theme as theme
from labkit.reports.report import report as report
from labkit.reports.sweep import sweep as sweep

__version__: str
