"""Saved folders with a fault in them: flipped, cut, swapped, poisoned. What must never be loaded, and never run."""

import pickle
import shutil

import torch

from labkit.storage import tensor_folder


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def _file(folder, rng):
    return rng.choice(sorted(folder.iterdir()))


def flipped(folder, rng, mark):
    """One bit is another."""
    path = _file(folder, rng)
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def cut(folder, rng, mark):
    """The end is missing."""
    path = _file(folder, rng)
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.randrange(len(raw))])


def longer(folder, rng, mark):
    """Something follows the end."""
    path = _file(folder, rng)
    path.write_bytes(path.read_bytes() + rng.choice([b"\0", b" ", b"\n", path.read_bytes()]))


def gone(folder, rng, mark):
    """A file is missing."""
    _file(folder, rng).unlink()


def pickled(folder, rng, mark):
    """A file is a pickle that runs code."""
    path = _file(folder, rng)
    path.unlink()
    if rng.random() < 0.5:
        torch.save({"theta": Bomb(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(mark)))


def header(folder, rng, mark):
    """The header of the tensors says that it is of another length."""
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(rng.randbytes(8) + path.read_bytes()[8:])


def reshaped(folder, rng, mark):
    """A folder that is whole, of another architecture: the tensors of one name have another shape, or are missing."""
    kind = next(folder.glob("*.json")).stem
    tensors, facts = tensor_folder.read(folder, kind)
    name = rng.choice([name for name in tensors if name.startswith(("theta", "optimizer.", "previous", "final."))])
    if rng.random() < 0.5:
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    else:
        del tensors[name]
    shutil.rmtree(folder)
    tensor_folder.write(folder, kind, tensors, {key: value for key, value in facts.items() if key != "format"})


KINDS = (flipped, flipped, cut, longer, gone, pickled, header, reshaped)
