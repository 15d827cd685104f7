"""A notebook's parameters, read and checked before a kernel starts, with the standard library and `core.spec` alone.

papermill writes names and values into the notebook as code, and only warns of a name that the notebook does not
have; here a name must be one that the notebook declares, and a value becomes what its declaration says.
"""

import ast
import io
import json
import math
import numbers
import re
import reprlib
import sys
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.core.rules import Number, Whole, nearest, refusal
from labkit.core.spec import CSV, RULES, Spec, check_table

TAG = "parameters"  # of the one cell that declares them
INJECTED = "injected-parameters"  # papermill's tag of the cell in which it gives others
SECONDS = Number("the most that a run may take", 0, 1e9, open_low=True)
WORKERS = Whole("runs at once on this machine", 1, 10_000)
WORDS = {"true": True, "false": False}
NOTHING = ("none", "null")
NUMBERS = {int: r"[+-]?\d{1,300}", float: r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"}
GPU_NODES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")  # what a driver puts into /dev: NVIDIA, Tegra, AMD, WSL
MEANS = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "text",
    "list": "a list such as [1, 2]",
    "dict": "a dictionary such as {'a': 1}",
    "None": "none",
}


@dataclass(frozen=True)
class Parameter:
    """One name that a notebook declares.

    Attributes:
        name: What it is called.
        kinds: The types that its declaration allows, by name: "int", "float", "bool", "str", "list", "dict", "None".
        default: Its value in the notebook.
        about: The comment beside it.
        options: The only values that it takes, where it is declared as `Literal`.
    """

    name: str
    kinds: tuple[str, ...]
    default: object
    about: str
    options: tuple[object, ...] = ()

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        if self.options:
            return f"one of {', '.join(map(str, self.options))}"
        return " or ".join(MEANS[kind] for kind in self.kinds)

    @property
    def rule(self) -> str:
        """What it takes, with the bounds or the menu of a field of `Spec`."""
        return RULES[self.name].allowed if self.name in RULES and not self.options else self.allowed

    def read(self, text: str) -> object:
        """Turn what was typed on a command line into a value.

        Raises:
            ValueError: if it is none that the declaration allows.
        """
        read = [value for value in (READ[kind](text) for kind in self.kinds) if value is not Unread]
        fitting = [value for value in read if not self.options or value in self.options]
        if not read:
            raise self._refusal(text)
        return self.take((fitting or read)[0])

    def take(self, value: object) -> object:
        """Return a Python value as the declared type, a whole number as a float where one is wanted.

        Raises:
            ValueError: if it is of another type, or not finite.
        """
        if isinstance(value, numbers.Number) and hasattr(value, "item"):
            value = value.item()  # a number of NumPy's
        kind = _kind(value)
        if kind == "int" and "int" not in self.kinds and "float" in self.kinds:
            value, kind = float(value), "float"
        if kind not in self.kinds or not _can_be_kept(value):
            raise self._refusal(value)
        if self.options and value not in self.options:
            raise self._refusal(value, nearest(value, [str(option) for option in self.options]))
        return value

    def _refusal(self, value: object, hint: str = "") -> ValueError:
        return refusal(self.name, value, self.allowed, hint)


def _can_be_kept(value: object) -> bool:
    """Whether a value goes through JSON, and so through a notebook's file, as it is."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value
    except (TypeError, ValueError, RecursionError):  # a set, nan, a text that is none
        return False


class Unread:
    """What a text is that does not say a value of some kind."""


def _number(kind: type, text: str) -> object:
    plain = re.fullmatch(NUMBERS[kind], text, re.ASCII)
    return kind(text) if plain and math.isfinite(float(text)) else Unread


def _literal(kind: type, text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return Unread
    return value if type(value) is kind else Unread


READ = {  # kind → from a text to a value, or Unread
    "int": lambda text: _number(int, text),
    "float": lambda text: _number(float, text),
    "bool": lambda text: WORDS.get(text.lower(), Unread),
    "None": lambda text: None if text.lower() in NOTHING else Unread,
    "list": lambda text: _literal(list, text),
    "dict": lambda text: _literal(dict, text),
    "str": lambda text: text,
}
KINDS = sorted(READ, key=list(READ).index)  # a text is anything else, so it is tried last


def load(path: Path) -> dict:
    """Read a notebook as plain JSON.

    Raises:
        ValueError: if there is no such file, or it is not a notebook.
    """
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        others = [] if Path(path).is_dir() else [other.name for other in Path(path).parent.glob("*.ipynb")]
        hint = nearest(Path(path).name, others)
        raise ValueError(f"{str(path)!r} cannot be read as a notebook: {error.strerror}.{hint}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{str(path)!r} is not a notebook: it is no JSON. Give a file that ends in .ipynb.") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(map(_is_cell, cells)):
        raise ValueError(f"{str(path)!r} is not a notebook of format 4: it has no list of cells.")
    for cell in cells:
        if cell.get("cell_type") == "code":
            cell.setdefault("outputs", [])
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}} | notebook | {"cells": _folded(cells)}


def _folded(cells: list[dict]) -> list[dict]:
    """Let the cell that declares the parameters end with what an earlier run was given, so that both are one."""
    given = [cell for cell in cells if _tagged(cell, INJECTED)]
    if not given:
        return cells
    home = next((cell for cell in cells if _tagged(cell, TAG)), given[0])
    home["source"] = "\n".join("".join(each.get("source", "")) for each in [home, *(c for c in given if c is not home)])
    if home is given[0]:
        home["metadata"]["tags"] = [TAG]
    return [cell for cell in cells if cell is home or cell not in given]


def _tagged(cell: dict, tag: str) -> bool:
    return tag in cell.get("metadata", {}).get("tags", [])


def _is_cell(cell: object) -> bool:
    if not isinstance(cell, dict):
        return False
    source, metadata = cell.get("source", ""), cell.get("metadata", {})
    lines = source if isinstance(source, list) else [source]
    tags = metadata.get("tags", []) if isinstance(metadata, dict) else None
    return isinstance(tags, list) and all(isinstance(line, str) for line in lines)


def declared(notebook: dict) -> dict[str, Parameter]:
    """Return the parameters of a notebook, by name, in the order of its cell tagged `parameters`.

    Raises:
        ValueError: if that cell is not Python, or several cells are tagged so.
    """
    tagged = [cell for cell in notebook["cells"] if _tagged(cell, TAG)]
    if len(tagged) > 1:
        raise ValueError(f"{len(tagged)} cells of the notebook are tagged {TAG!r}: keep the tag on one of them.")
    source = "".join(tagged[0].get("source", "")) if tagged else ""
    try:
        statements, comments = ast.parse(source).body, _comments(source)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise ValueError(f"the notebook's cell of parameters is not Python: {error}.") from None
    known: dict[str, Parameter] = {}
    for statement in statements:
        _declare(known, statement, comments)
    return known


def _comments(source: str) -> dict[int, str]:
    """The comment that ends a line, by the line's number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _declare(known: dict[str, Parameter], statement: ast.stmt, comments: dict[int, str]) -> None:
    """Add `name: type = value` or `name = value`; what is computed is no parameter, and a later value replaces one."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            pass
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            annotation = ast.Constant("")
        case ast.AugAssign(target=ast.Name(id=name)):
            known.pop(name, None)
            return
        case _:
            return
    earlier = known.pop(name, None)
    try:
        default, (said, options) = ast.literal_eval(value), _annotated(annotation)
    except (ValueError, TypeError, SyntaxError):
        return
    if _kind(default) not in READ:
        return
    if earlier and isinstance(statement, ast.Assign):
        said, options = earlier.kinds, earlier.options
    kinds = tuple(kind for kind in KINDS if kind in said or kind == _kind(default))
    about = comments.get(statement.end_lineno, earlier.about if earlier else "")
    known[name] = Parameter(name, kinds, default, about, options)


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _annotated(node: ast.expr) -> tuple[list[str], tuple[object, ...]]:
    """The kinds that an annotation allows, and the only values where `Literal` names them."""
    if isinstance(node, ast.Constant):  # None, or an annotation between quotes
        quoted = isinstance(node.value, str) and node.value
        return _annotated(ast.parse(quoted, mode="eval").body) if quoted else (["None"] * (node.value is None), ())
    if isinstance(node, ast.BinOp):
        return _either([node.left, node.right])
    head = node.value if isinstance(node, ast.Subscript) else node
    name = getattr(head, "attr", getattr(head, "id", ""))
    if not isinstance(node, ast.Subscript):
        return [name], ()
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        options = tuple(ast.literal_eval(each) for each in inner)
        return [_kind(option) for option in options], options
    if name in ("Optional", "Union"):
        return _either(inner + [ast.Constant(None)] * (name == "Optional"))
    return [name], ()  # list[int] is a list


def _either(nodes: list[ast.expr]) -> tuple[list[str], tuple[object, ...]]:
    """The kinds of several annotations; their values, where no other kind but None stands beside them."""
    found = [_annotated(node) for node in nodes]
    kinds = [kind for said, _ in found for kind in said]
    options = tuple(option for said, some in found for option in (some or (None,) * (said == ["None"])))
    free = any(said != ["None"] and not some for said, some in found)
    return kinds, () if free or options == (None,) else options


def checked(notebook: dict, given: Mapping[str, object], *, typed: bool = True, here: bool = True) -> dict[str, object]:
    """Return the given parameters as values of the declared types, fields of `Spec` by their own rules.

    Args:
        notebook: As `load` returns it.
        given: Names and values.
        typed: Whether values come from Python; otherwise they are texts from a command line.
        here: Whether this machine is to run it, so that it must have the device.

    Raises:
        ValueError: naming the parameter, what was given, what is allowed and the nearest match.
    """
    known = declared(notebook)
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in known:
            has = f"it declares {', '.join(known)}" if known else "it declares none"
            shown = reprlib.repr(str(name)).replace("\n", " ")
            raise ValueError(f"{shown} is no parameter of this notebook: {has}.{nearest(name, list(known))}")
        values[name] = known[name].take(value) if typed else known[name].read(str(value))
        if name in RULES:
            RULES[name].check(name, values[name])
        elif str(values[name]).startswith(CSV):
            check_table(name, str(values[name]))
    every = {name: parameter.default for name, parameter in known.items()} | values
    _check_together(every)
    if here and every.get("device") in list(ABSENT):
        _check_device(every["device"])
    return values


def check_limits(seconds: float | None = None, workers: int | None = None) -> None:
    """Raise `ValueError` where a run's time or the number of workers is given and is not allowed."""
    for name, rule, value in (("seconds", SECONDS, seconds), ("workers", WORKERS, workers)):
        if value is not None:
            rule.check(name, value)


def _check_device(name: str) -> None:
    """Refuse a device that this machine cannot have, as far as that shows without torch: asking it takes seconds."""
    why = ABSENT[name]()
    if why:
        raise ValueError(f"device={name!r} is not allowed: {why}. Take 'auto' or 'cpu'.")


def _no_cuda() -> str:
    from importlib import metadata

    try:
        build = metadata.version("torch")
    except metadata.PackageNotFoundError:  # the kernel's may be another
        build = ""
    if build.endswith("+cpu") or sys.platform == "darwin":
        return f"torch {build} is built without CUDA"
    nodes = [node for pattern in GPU_NODES for node in Path("/dev").glob(pattern)]
    return "this machine has no NVIDIA GPU" if sys.platform == "linux" and not nodes else ""


def _no_mps() -> str:
    return "" if sys.platform == "darwin" else "only a Mac has an Apple GPU"


ABSENT = {"cuda": _no_cuda, "mps": _no_mps}  # device → why it cannot be here, or nothing


def _check_together(values: dict[str, object]) -> None:
    """Check what fields of a `Spec` rule out of each other, as far as the notebook declares them."""
    fields = {name: value for name, value in values.items() if name in RULES}
    if "samples" not in fields or "batch_size" not in fields:
        fields["batch_size"] = 0  # how many samples there are is the notebook's affair
    if {"dataset", "loss"} <= fields.keys():
        Spec(**fields)
