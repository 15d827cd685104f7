"""One network trained by several processes, each of which holds a share of it (FSDP2); it draws nothing.

`train_sharded` starts them by torchrun outside the calling process: one that has used CUDA cannot be forked, and a
notebook that trained live has. Run as a program, this file is what each of them does.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from labkit.core.data import Split, generator, load_data
from labkit.core.devices import choose
from labkit.core.losses import Loss
from labkit.core.network import count, draw, to_module
from labkit.core.optimizers import ALPHA, BETA2
from labkit.core.runs import progress
from labkit.core.spec import Spec
from labkit.core.trainer import BatchSampler

LOOKS = 50  # how often the ranks compare their losses and the bar moves
GRACE = 5.0  # seconds that the processes get to end by themselves
KILLED = re.compile(r"Signal \d+ \(SIG(?!TERM)\w+\) received by PID \d+")  # SIGTERM is how torchrun ends the others
ABORTED = re.compile(r"^(?:terminate called|  what\(\)|Fatal Python error).*", re.MULTILINE)  # a process's last words
AT_ONCE = 1024  # test samples
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # all ranks are on this machine; its own name may lead nowhere


@dataclass(frozen=True, repr=False, eq=False)
class Sharded:
    """What a training over several processes left.

    Attributes:
        loss: Training loss of whole batches before each update, up to a divergence.  # (steps,)
        seconds: Time spent training alone.
        bytes_per_rank: Weights, gradients and optimizer state that each rank holds at rest.
        where: The kind of device: cpu or cuda.
        diverged: None, or the step at which the loss was no longer finite.
        spec: The choices, as they were given.
        widths: Units of each layer, inputs and outputs included.
        weights: The trained network's, whole again: from a name as in `nn.Module.state_dict` to a tensor on the CPU.
    """

    loss: np.ndarray
    seconds: float
    bytes_per_rank: list[int]
    where: str
    diverged: int | None
    spec: Spec
    widths: list[int]
    weights: dict[str, Tensor]

    @property
    def ranks(self) -> int:
        """How many processes trained."""
        return len(self.bytes_per_rank)

    def model(self) -> nn.Sequential:
        """Return a copy of the trained network on the CPU, layers named as in `Run.model`."""
        empty = torch.zeros(count(tuple(self.widths)))
        model = to_module(tuple(self.widths), self.spec.activation, empty, residual=self.spec.residual)
        model.load_state_dict(self.weights)
        return model

    def __repr__(self) -> str:
        end = f"loss {self.loss[-1]:.4g}" if self.diverged is None else f"diverged at step {self.diverged:,}"
        held = ", ".join(f"{each / 1e6:,.2f}" for each in self.bytes_per_rank)
        return (
            f"Sharded: {end} after {len(self.loss):,} steps in {self.seconds:.2f} s on {self.ranks} ranks "
            f"({self.where}), which hold {held} MB"
        )


def train_sharded(spec: Spec, *, ranks: int = 2) -> Sharded:
    """Train a spec's network cut over several processes, to the numbers of `labkit.train`.

    Every rank keeps its share of each layer's weights, gradients and optimizer state, fetches the rest of a layer for
    the moment in which it is needed, and works on its share of each batch (Zhao et al. 2023, arXiv:2304.11277).

    Args:
        spec: The choices. On CUDA each rank takes a GPU of its own; on the CPU, a thread.
        ranks: How many processes.

    Raises:
        ValueError: if the ranks, the batch or the device do not go together.
        RuntimeError: if a rank fails; with what it said last.
    """
    from safetensors.torch import load_file

    where = _checked(spec, ranks)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += ["-m", "labkit.core.sharded", spec.but(device=where).share(), folder, str(os.getpid())]
        said = Path(folder) / "said"
        with said.open("w") as stderr, _started(command, stderr) as process:
            _watch(process, spec.steps)
            code = process.wait()
        if code:
            raise RuntimeError(f"a rank of {ranks} failed, and the others with it: {_reason(Path(folder), code)}")
        facts = json.loads((Path(folder) / "facts.json").read_text())
        loss, weights = np.load(Path(folder) / "loss.npy"), load_file(Path(folder) / "weights.safetensors")
        return Sharded(loss=loss, where=where, spec=spec, weights=weights, **facts)


def _checked(spec: Spec, ranks: int) -> str:
    """Return the kind of device, or say why these ranks cannot be."""
    if not isinstance(spec, Spec):
        raise ValueError(f"train_sharded takes a Spec, not {spec!r}. Write labkit.Spec(…).")
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise ValueError(f"ranks={ranks!r} is not allowed: ranks takes a whole number from 1.")
    where = choose(spec.device).device.type
    gpus = torch.cuda.device_count()
    if where == "cuda" and ranks > gpus:
        raise ValueError(f"ranks={ranks} is not allowed: each takes a GPU, and this machine has {gpus}. Take fewer.")
    if where not in ("cpu", "cuda"):
        raise ValueError(f"device={spec.device!r} is not allowed: ranks share a network on cpu or cuda. Take 'cpu'.")
    split = load_data(spec)
    batch = spec.batch_size or len(split.x_train)
    if batch % ranks:
        fits = max(each for each in range(1, ranks) if batch % each == 0)
        raise ValueError(
            f"ranks={ranks} is not allowed: a batch of {batch:,} samples has no {ranks} equal shares. "
            f"Take ranks={fits}, or a batch_size that {ranks} divides."
        )
    return where


@contextmanager
def _started(command: list[str], stderr: object) -> Iterator[subprocess.Popen]:
    """Start the processes, and leave none behind, whatever happens meanwhile."""
    import psutil  # torch alone is enough to import this file

    env = os.environ | {"OMP_NUM_THREADS": "1"}
    if sys.platform in LOOPBACK:
        env.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    process = psutil.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        family = process.children(recursive=True) if process.is_running() else []
        if process.poll() is None:
            process.terminate()
        for left in psutil.wait_procs([process, *family], GRACE)[1]:
            left.kill()
        process.stdout.close()


def _watch(process: subprocess.Popen, steps: int) -> None:
    """Move a bar as the first rank says how far it is."""
    with progress(total=steps, unit="step") as bar:
        for line in process.stdout:
            if line.startswith("step "):
                bar.update(int(line.split()[1]) - bar.n)


def _reason(folder: Path, code: int) -> str:
    """Who was killed, and which error came first: later ones are but of ranks that miss the first."""
    said = (folder / "said").read_text()
    first = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)[:1]
    killed = [f"torchrun was killed by signal {-code}"] if code < 0 else KILLED.findall(said)[-1:]  # the cause is last
    reasons = killed + ABORTED.findall(said) + [path.read_text() for path in first]
    return "; ".join(reasons) or "\n".join([f"exit code {code}", *said.strip().splitlines()[-12:]])


# What each process does


def _optimizer(spec: Spec, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of torch.optim that a spec's rule is."""
    common = {"lr": spec.lr, "weight_decay": spec.l2}
    if spec.optimizer in ("sgd", "momentum"):
        return torch.optim.SGD(parameters, momentum=spec.momentum if spec.optimizer == "momentum" else 0, **common)
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, alpha=ALPHA, **common)
    kind = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, betas=(spec.momentum, BETA2), **common)


def _widths(spec: Spec, split: Split) -> tuple[int, ...]:
    return split.inputs, *spec.hidden, split.outputs


def _cut(spec: Spec, split: Split) -> nn.Module:
    """Draw the first weights as `labkit.train` does, and leave this rank its share of every layer."""
    from torch.distributed.fsdp import fully_shard

    widths = _widths(spec, split)
    theta = draw(widths, spec.init, generator(spec.seed, "init"))
    model = to_module(widths, spec.activation, theta, residual=spec.residual)
    mesh = dist.init_device_mesh(spec.device, (dist.get_world_size(),))
    for block in model.children():
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _train(spec: Spec, split: Split, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Tensor, float]:
    """Train; return the whole batches' losses, up to the look that found one not finite, and the seconds."""
    x, y = split.x_train.to(spec.device), split.y_train.to(spec.device)
    loss_fn, shares = Loss(spec.loss, spec.huber_delta), _shares(spec, len(x))
    losses, seen, began = [], torch.empty(0), time.perf_counter()
    for step in range(1, spec.steps + 1):
        rows = next(shares)
        loss = loss_fn(model(x[rows]), y[rows])
        loss.backward()  # the ranks' gradients are averaged here: equal shares, so the whole batch's
        for part in model.parameters() if spec.l1 else ():
            part.grad.add_(part.detach().sign(), alpha=spec.l1)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        if step % max(1, spec.steps // LOOKS) == 0 or step == spec.steps:
            seen, losses = torch.cat([seen, _whole(losses)]), []
            if dist.get_rank() == 0:
                print("step", step, flush=True)
            if not seen.isfinite().all():
                break
    return seen, time.perf_counter() - began


def _shares(spec: Spec, samples: int) -> Iterator[Tensor]:
    """Yield this rank's share of each batch, in the order of the `Trainer`."""  # (batch / ranks,)
    order, batch = BatchSampler(spec.seed, samples), spec.batch_size or samples
    share = batch // dist.get_world_size()
    mine = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)
    while True:
        yield (order.take(batch) if spec.batch_size else torch.arange(batch))[mine]


def _sound(spec: Spec, split: Split, model: nn.Module) -> bool:
    """Whether weights and test loss are finite on every rank: no step follows the last one to show it."""
    loss_fn, tests = Loss(spec.loss, spec.huber_delta), (split.x_test.split(AT_ONCE), split.y_test.split(AT_ONCE))
    finite = [part.to_local().isfinite().all() for part in model.parameters()]
    with torch.no_grad():
        for x, y in zip(*tests, strict=True) if len(split.x_test) else ():
            finite.append(loss_fn(model(x.to(spec.device)), y.to(spec.device)).isfinite())
    broken = (~torch.stack(finite)).sum()
    dist.all_reduce(broken)
    return not broken


def _whole(losses: list[Tensor]) -> Tensor:
    """The means of the ranks' losses: those of whole batches."""  # (steps,)
    found = torch.stack(losses)
    dist.all_reduce(found)
    return found.cpu() / dist.get_world_size()


def _held(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
    """Bytes of weights, gradients and optimizer state on every rank."""
    weights = sum(part.to_local().nbytes for part in model.parameters())
    kept = [part for state in optimizer.state.values() for part in state.values() if getattr(part, "ndim", 0)]
    everyone = [0] * dist.get_world_size()
    dist.all_gather_object(everyone, 2 * weights + sum(part.to_local().nbytes for part in kept))
    return everyone


def _rank(spec: Spec, folder: Path) -> None:
    """Train this rank's share; the first rank writes what came out."""
    from safetensors.torch import save_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    if spec.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if spec.device == "cuda" else "gloo")
    split = load_data(spec)
    model = _cut(spec, split)
    optimizer = _optimizer(spec, model.parameters())
    seen, seconds = _train(spec, split, model, optimizer)
    broken = (~seen.isfinite()).nonzero().flatten().tolist()
    if not broken and not _sound(spec, split, model):
        broken = [spec.steps]
    diverged = broken[0] if broken else None
    facts = {"seconds": seconds, "bytes_per_rank": _held(model, optimizer), "diverged": diverged}
    facts |= {"widths": _widths(spec, split)}
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:  # the only one that was given the weights
        save_file(weights, folder / "weights.safetensors")
        np.save(folder / "loss.npy", seen[:diverged].numpy())
        (folder / "facts.json").write_text(json.dumps(facts))
    dist.destroy_process_group()


def _stay_with(caller: int) -> None:
    """End this process as soon as torchrun, or the caller who started that, is gone: a killed one ends nobody."""
    import psutil

    while caller in [each.pid for each in psutil.Process().parents()]:
        time.sleep(1)
    os._exit(1)


def main(share: str, folder: str, caller: str) -> None:
    """Be one rank of torchrun's; say in a file why it failed, if it did."""
    threading.Thread(target=_stay_with, args=(int(caller),), daemon=True).start()
    code = 0
    try:
        _rank(Spec.from_share(share), Path(folder))
    except Exception as error:
        (Path(folder) / f"error-{os.environ['RANK']}").write_text(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as Python ends, a thread of torch's may abort the process (pytorch issues #38228 and #190489)


if __name__ == "__main__":
    main(*sys.argv[1:])
