"""One network cut over several processes (PyTorch's FSDP2), to the losses of `labkit.train`.

    torchrun --standalone --nproc-per-node 2 notebooks/sharded_training.py SHARE FOLDER

SHARE is what `spec.share()` gives. Each process keeps its share of every layer's weights, gradients and moments,
fetches the rest of a layer when it is needed, and works on its share of each batch (arXiv:2304.11277).
FOLDER gets facts.json (losses, bytes of each process) and weights.safetensors, whole again.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

import labkit
from labkit.core.batches import BatchSampler
from labkit.core.optimizers import ALPHA

OPTIMIZERS = {
    "sgd": lambda spec: (torch.optim.SGD, {}),
    "momentum": lambda spec: (torch.optim.SGD, {"momentum": spec.momentum}),
    "rmsprop": lambda spec: (torch.optim.RMSprop, {"alpha": ALPHA}),
    "adam": lambda spec: (torch.optim.Adam, {"betas": (spec.momentum, 0.999)}),
    "adamw": lambda spec: (torch.optim.AdamW, {"betas": (spec.momentum, 0.999)}),
}


def shares(spec, samples, rank, ranks):
    """Yield the rows of this process's share of each batch, in the order of `labkit.train`."""
    sampler, batch = BatchSampler(spec.seed, samples), spec.batch_size or samples
    if batch % ranks:
        raise ValueError(f"{ranks} processes cannot share a batch of {batch} equally. Choose a number that divides it.")
    mine = slice(rank * batch // ranks, (rank + 1) * batch // ranks)
    while True:
        yield (sampler.take(batch) if spec.batch_size else torch.arange(batch))[mine]


def train(spec, model, split, loss_fn, device):
    """Return the losses of whole batches, and the optimizer with what it keeps."""
    kind, options = OPTIMIZERS[spec.optimizer](spec)
    optimizer = kind(model.parameters(), lr=spec.lr, weight_decay=spec.l2, **options)
    x, y = split.x_train.to(device), split.y_train.to(device)
    rows, losses = shares(spec, len(x), dist.get_rank(), dist.get_world_size()), []
    for mine, _ in zip(rows, range(spec.steps), strict=False):
        loss = loss_fn(model(x[mine]), y[mine])
        loss.backward()  # the gradients are averaged over the processes here: equal shares, so the whole batch's
        for part in model.parameters() if spec.l1 else ():
            part.grad.add_(part.detach().sign(), alpha=spec.l1)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    losses = torch.stack(losses)
    dist.all_reduce(losses)
    return losses.cpu() / dist.get_world_size(), optimizer


def main(share, folder):
    """Train this process's share; the first one writes and prints what came out."""
    spec, ranks = labkit.Spec.from_share(share), int(os.environ["WORLD_SIZE"])
    on_gpus = spec.device in ("auto", "cuda") and torch.cuda.device_count() >= ranks
    if spec.device == "cuda" and not on_gpus:
        raise ValueError(f"{ranks} processes need as many GPUs; this machine has {torch.cuda.device_count()}.")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpus else torch.device("cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")  # all on this machine
    dist.init_process_group("nccl" if on_gpus else "gloo")
    trainer = labkit.Trainer(spec.but(device="cpu"))  # the data and first weights of `labkit.train`
    model, mesh = trainer.copies_of(initial=True)(), dist.init_device_mesh(device.type, (ranks,))
    for layer in model.children():
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    model = fully_shard(model, mesh=mesh)
    losses, optimizer = train(spec, model, trainer.split, trainer.loss, device)
    moments = [part for state in optimizer.state.values() for part in state.values() if part.ndim]
    held = sum(part.to_local().nbytes for part in [*model.parameters(), *model.parameters(), *moments])
    every = [0] * ranks
    dist.all_gather_object(every, held)
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:  # the only one that was given the weights
        save_file(weights, Path(folder, "weights.safetensors"))
        Path(folder, "facts.json").write_text(json.dumps({"loss": losses.tolist(), "bytes": every}))
        print(f"{ranks} processes on {device.type} hold {every} bytes; last loss {losses[-1]:.4g}", flush=True)
    dist.destroy_process_group()
    os._exit(0)  # as Python ends, a thread of torch's may abort the process (pytorch issues #38228 and #190489)


if __name__ == "__main__":
    main(*sys.argv[1:])
