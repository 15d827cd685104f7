"""Every label of the lab on the screen, under the key of what it labels: commands, states, tabs, fields, options.

Nothing depends on a label, so that they can be translated (CONTRIBUTING.md names the sentences that stand elsewhere).
"""

BUTTONS = {  # command → label, and what it does
    "train": ("Train", "train until the last step, or until you pause; after a finished run, a new one"),
    "pause": ("Pause", "hold the training where it is"),
    "step": ("Step", "make one update of the weights"),
    "stop": ("Stop", "end this run here and keep it"),
    "reset": ("Reset", "start over with what the controls say"),
    "pin": ("Pin", "keep this run to compare it with others"),
    "unpin": ("Unpin all", "forget the pinned runs"),
    "open": ("Open", "move the controls to what the share string says"),
}
TRAIN_AGAIN, RESET_TO_APPLY, CHANGES = "Train again", "Reset to apply {}", "{} changes"
COPY, COPIED, COPY_HELP = "Copy", "Copied", "copy to the clipboard"
STATES = {state: state for state in ("idle", "running", "paused", "done", "stopped", "failed")}
TABS = {"learning": "Learning", "landscape": "Landscape", "compare": "Compare", "share": "Share"}
SPEEDS = {  # steps a second → label
    30: "slow: 30 steps/s",
    300: "watch: 300 steps/s",
    3000: "fast: 3,000 steps/s",
    float("inf"): "full speed",
}
OPTIONS = {  # what changes the drawing and its speed → label, and what it does
    "log": ("log scale", "draw losses by powers of ten"),
    "against": ("", "what the curves are drawn against"),
    "speed": (
        "speed",
        "how fast to train while you watch; the numbers are the same, and seconds count the computing alone",
    ),
    "discrete": ("only the answer", "colour the map by the answer alone, not by how sure the network is"),
}
AGAINST = {"steps": "steps", "seconds": "seconds"}
SHARE = {"share": "share string", "code": "Python", "load": "open one"}
PASTE = "paste a share string here"
CHARTS_COME = "The charts are on their way. While other cells of the notebook run, they wait for those."
NO_PINS = "Pin up to six runs with the button <b>Pin</b> above; they are compared here, against steps and seconds."
PIN_COLUMNS = ("run", "steps", "seconds", "test loss", "score", "")

GROUPS = {"data": "Data", "network": "Network", "training": "Training"}
FIELDS = {"lr": "learning rate", "steps": "stop at step"}  # every other label is the field's name
CSV_FILE, CSV_PATH = "csv file …", "path/to/table.csv"
CSV_HELP = "a table of numbers: inputs first, the target in the last column"

LANDSCAPE = {  # control of the tab → label, and what it does
    "kind": ("", "the loss as a surface that you can turn, or as a map of contours"),
    "directions": ("directions", "which two of the many directions through weight space span the picture"),
    "seed": ("seed", "another seed draws other random directions"),
    "span": ("span", "how far to look: twice as far shows four times the area"),
    "log": OPTIONS["log"],
    "at": ("around step", "look around the weights that the network had at this step"),
}
KINDS = {"3-D": "3-D", "contours": "contours"}
DIRECTIONS = {"random": "random", "path": "path (PCA)", "Hessian": "Hessian"}
LANDSCAPE_COMES = "The landscape is being measured …"
STEP_OF, NOW = "{:,} of {:,}", " (now)"


def field(name: str) -> str:
    """Return the label of a field of `Spec`."""
    return FIELDS.get(name, name.replace("_", " "))
