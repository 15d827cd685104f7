"""The command line: what it prints, what it refuses, and what the doctor finds."""

import subprocess
import sys

import pytest
import torch

from labkit import doctor
from labkit.cli import main
from labkit.core import devices


def labkit(*words):
    return subprocess.run([sys.executable, "-m", "labkit", *words], capture_output=True, text=True)


def test_no_arguments_print_help():
    done = labkit()
    assert done.returncode == 0
    assert {"doctor", "report", "sweep"} <= set(done.stdout.split())


def test_help_costs_no_torch():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from labkit.cli import main; main([]); sys.exit('torch' in sys.modules)",
        ]
    )
    assert done.returncode == 0


def test_unknown_command_is_one_line_with_the_nearest_match(capsys):
    assert main(["reprot"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'reprot'" in line and "Did you mean 'report'?" in line


@pytest.mark.parametrize("words", [["--depth"], ["report", "--slow"], ["doctor", "me"]])
def test_unknown_option_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--seconds", "soon", "'soon' is not allowed: it takes a number above 0"),
        ("--seconds", "nan", "'nan' is not allowed"),
        ("--seconds", "0", "'0' is not allowed"),
        ("--workers", "0", "'0' is not allowed: it takes a whole number from 1 to 10,000"),
        ("--workers", "1.5", "'1.5' is not allowed"),
    ],
)
def test_a_limit_that_is_none_is_refused_in_one_line(option, value, words, capsys):
    with pytest.raises(SystemExit) as left:
        main(["sweep", "some.ipynb", "-g", "depth", "1", option, value])
    said = capsys.readouterr().err
    assert left.value.code == 2 and len(said.splitlines()) == 1 and words in said and option in said


def test_ctrl_c_is_130(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "doctor", interrupted)
    assert main(["doctor"]) == 130


def test_doctor_names_the_device_and_trains(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 20
    assert devices.choose("auto").why in said
    assert torch.__version__ in said
    assert "steps/s on" in said
    assert "All well" in said


def found(about):
    return next(finding for finding in doctor.examine() if finding.about == about)


def test_doctor_says_which_part_is_missing(monkeypatch, capsys):
    installed = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: "" if name == "jupyterlab" else installed(name))
    assert doctor.doctor() == 1
    said = capsys.readouterr().out
    assert "jupyterlab is missing" in said
    assert "To do: run `make lab`" in said.splitlines()[-1]


def test_doctor_says_which_part_is_too_old(monkeypatch):
    monkeypatch.setattr(doctor, "bounds", lambda: {"plotly": "99.1", "torch": "2.9.10"})
    assert "plotly" in found("packages").words and "is older than 99.1" in found("packages").words
    assert "torch" not in found("packages").words


def test_bounds_are_those_of_the_project():
    assert doctor.bounds()["torch"] == "2.11"
    assert "pytest" not in doctor.bounds()
    assert set(doctor.NAMED) <= set(doctor.bounds())


def test_a_training_that_fails_is_a_finding(monkeypatch):
    def fails(spec):
        raise RuntimeError("no kernel image\nand more")

    monkeypatch.setattr("labkit.core.runs.train", fails)
    finding = found("trial")
    assert finding.words == "training failed: no kernel image"
    assert 'device="cpu"' in finding.remedy


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as torch would tell of it."""

    def fake(capability, archs=("sm_75", "sm_80", "sm_90", "sm_120", "compute_120")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA GeForce GTX 1080")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(archs))

    return fake


def test_a_gpu_too_old_for_this_torch_is_named_and_not_used(gpu, capsys):
    gpu((6, 1))
    assert devices.choose("auto").device.type == "cpu"
    assert main(["doctor"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("uses"))
    assert "cpu" in line
    assert "GTX 1080 (compute capability 6.1) is too old" in line
    assert "install an older torch" in line


@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (9, 0), (12, 1), (13, 0)])
def test_a_gpu_that_this_torch_knows_or_can_compile_for_is_used(gpu, capability):
    gpu(capability)
    assert devices.gpu_misfit() == ""
    assert next(iter(devices.available())) == "cuda"


def test_a_gpu_too_new_for_this_torch_is_named(gpu):
    gpu((12, 0), archs=("sm_70", "sm_90a"))
    assert "is too new" in devices.gpu_misfit()


@pytest.mark.parametrize(
    "cuda, version, words",
    [
        ("13.0", "535.104.05", "needs 580 or newer"),
        (None, "580.10", "built without CUDA"),
        ("12.6", "580.10", "none to use"),
    ],
)
def test_a_driver_too_old_for_this_torch_is_named(monkeypatch, cuda, version, words):
    monkeypatch.setattr(devices, "available", lambda: {"cpu": "processor"})
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor, "_driver", lambda: ("Tesla T4", version))
    assert words in doctor._gpu().words
