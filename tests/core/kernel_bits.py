"""The bits that a training leaves, as SHA-1 of specs over all menus; `python kernel_bits.py` writes them on record.

They are written anew only when what is computed changes, never because a machine disagrees.
"""

import hashlib
import json
from pathlib import Path

import labkit
from labkit.core.spec import Spec

BASE = Spec(samples=200, steps=120, device="cpu")
SPECS = {
    "default": BASE,
    "3 weights": BASE.but(depth=0, loss="mse"),
    "linear on xor": BASE.but(dataset="xor", activation="linear"),
    "relu": BASE.but(activation="relu", dataset="circle"),
    "sigmoid": BASE.but(activation="sigmoid", dataset="moons", init="xavier"),
    "gelu": BASE.but(activation="gelu", dataset="gauss", init="pytorch"),
    "mse by sgd": BASE.but(loss="mse", optimizer="sgd"),
    "huber by momentum": BASE.but(loss="huber", optimizer="momentum", huber_delta=0.3, momentum=0.7),
    "rmsprop": BASE.but(optimizer="rmsprop", lr=0.001),
    "adamw with decay": BASE.but(optimizer="adamw", l2=0.1),
    "penalties": BASE.but(l1=0.001, l2=0.01),
    "funnel": BASE.but(shape="funnel", depth=4, width=32),
    "residual": BASE.but(residual=True, depth=5, activation="relu"),
    "residual funnel": BASE.but(residual=True, shape="funnel", depth=4, width=16, activation="gelu"),
    "one at a time": BASE.but(batch_size=1),
    "all at once": BASE.but(batch_size=0),
    "regression": BASE.but(dataset="plane", loss="mse"),
    "bumps by huber": BASE.but(dataset="bumps", loss="huber", width=9),
    "chebyshev": BASE.but(dataset="chebyshev", loss="mse", batch_size=0, width=30, depth=2, optimizer="sgd"),
    "no test set": BASE.but(train_share=1.0),
    "teacher": BASE.but(dataset="teacher", inputs=24, loss="mse"),
    "digits": BASE.but(dataset="digits", width=20, depth=1, steps=60),
    "digits by mse": BASE.but(dataset="digits", loss="mse", width=33, depth=2, steps=40, batch_size=64),
    "diverges": BASE.but(optimizer="sgd", loss="mse", lr=1e6),
    "another seed": BASE.but(seed=4321, noise=0.3),
    "wide": BASE.but(dataset="digits", depth=2, width=128, batch_size=128, steps=10),
    "the article's network": Spec.article().but(steps=4, device="cpu"),
}


def fingerprint(run):
    """SHA-1 of losses, test losses, scores and weights."""
    digest = hashlib.sha1()
    for part in (run.loss, run.test_loss, run.score):
        digest.update(part.astype("<f4").tobytes())
    for weights in run.model().parameters():
        digest.update(weights.detach().numpy().tobytes())
    return digest.hexdigest()


def fingerprints():
    return {name: fingerprint(labkit.train(spec)) for name, spec in SPECS.items()}


if __name__ == "__main__":
    Path(__file__).with_name("kernel_bits.json").write_text(json.dumps(fingerprints(), indent=1) + "\n")
