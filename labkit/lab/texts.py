"""Every label of the lab on the screen, under the key of what it labels: commands, states, tabs, fields, options.

Nothing depends on a label, so that they can be translated (CONTRIBUTING.md names the sentences that stand elsewhere).
"""

SCREEN: dict[str, str] = {}  # key → text, in place of the English ones at the top of static/screen_page.js
SPEEDS = {  # steps a second → label
    30: "slow: 30 steps/s",
    300: "watch: 300 steps/s",
    3000: "fast: 3,000 steps/s",
    float("inf"): "full speed",
}
FIELDS = {"lr": "learning rate", "batch_size": "batch size", "steps": "stop at step", "train_share": "for training"}
LOG = ("log scale", "draw losses by powers of ten")
SENTENCES = {
    "waiting": "The training loop is made ready for this processor; the first time, that takes some 20 seconds.",
    "idle": "Untrained: {}. Press Train.",
    "running": "Training: {}.",
    "milestone": "{} of the {} points right, for the first time at step {}.",
    "paused": "Step {}: {}. Train goes on from here; click a line to see what one weight does.",
    "done": "After {} steps {}.",
    "right": "{} of {} {} points are right",
    "explained": "R² of the {} points is {}",
    "was_better": "The test loss was lowest at step {}: {}. Stop there?",
    "touch": "Point at a unit to see its part; click a line and drag to change it.",
}

LANDSCAPE = {  # control of the tab → label, and what it does
    "kind": ("", "the loss as a surface that you can turn, or as a map of contours"),
    "directions": ("directions", "which two of the many directions through weight space span the picture"),
    "seed": ("seed", "another seed draws other random directions"),
    "span": ("span", "how far to look: twice as far shows four times the area"),
    "log": LOG,
    "at": ("around step", "look around the weights that the network had at this step"),
}
KINDS = {"3-D": "3-D", "contours": "contours"}
DIRECTIONS = {"random": "random", "path": "path (PCA)", "Hessian": "Hessian"}
LANDSCAPE_COMES = "The landscape is being measured …"
STEP_OF, NOW = "{:,} of {:,}", " (now)"


def field(name: str) -> str:
    """Return the label of a field of `Spec`."""
    return FIELDS.get(name, name.replace("_", " "))
