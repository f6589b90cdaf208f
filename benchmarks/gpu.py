"""What works on a GPU, how fast and how right? One command finds out, in under ten minutes.

    python benchmarks/gpu.py [--device auto|cpu|cuda] [--sections right,timed,fast,train,data]
                             [--output build/gpu] [--size small|full]

Each section runs in a process of its own, so that none lets another fall, and writes a JSON file.
On a CPU the same code runs in small. The exit code is 1 if any check failed. Some of what is
checked comes from the helpers of the tests.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from gpu_sections import BUDGETS, say

GRACE = 20.0  # seconds beyond its budget after which a section is ended
ROOT = Path(__file__).resolve().parents[1]
NEEDED = (  # modules, by what installs them
    ("torch", "torch"), ("diffusers", "diffusers"), ("accelerate", "accelerate"), ("ot", "POT"),
    ("torch_fidelity", "torch-fidelity"), ("sklearn", "scikit-learn"), ("pluggy", "pluggy"),
    ("pydantic", "pydantic"), ("safetensors", "safetensors"), ("psutil", "psutil"),
    ("pandas", "pandas"), ("yaml", "pyyaml"), ("click", "click"), ("filelock", "filelock"),
    ("priorbench", "priorbench"), ("priorbench_ot", "priorbench's plugins"),
)  # fmt: skip


def main() -> None:
    given = _arguments()
    if given.alone:
        sys.exit(_section(given.sections[0], given))
    given.output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    failed = [name for name in given.sections if not _in_process(name, given)]
    say(f"{time.monotonic() - started:.0f} s in all; written to {given.output}")
    if failed:
        say(f"with failures: {', '.join(failed)}")
    sys.exit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--sections", type=_names, default=list(BUDGETS), metavar="A,B,...")
    parser.add_argument("--output", type=Path, default=Path("build/gpu"))
    parser.add_argument("--size", choices=["small", "full"], help="by default as the device is")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in BUDGETS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(BUDGETS)}")
    return names


def _in_process(name: str, given: argparse.Namespace) -> bool:
    """Run a section in a process of its own; returns whether nothing in it failed."""
    file = given.output / f"{name}.json"
    file.unlink(missing_ok=True)  # a section that ends early must not show an earlier run's rows
    command = [sys.executable, __file__, "--alone", "--sections", name, "--device", given.device]
    command += ["--output", str(given.output)] + (["--size", given.size] if given.size else [])
    paths = [
        str(ROOT),
        str(ROOT / "plugins"),
        str(ROOT / "tests"),
        os.environ.get("PYTHONPATH", ""),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"PYTHONWARNINGS": "ignore", "KINETO_LOG_LEVEL": "5"}  # the rows say what counts
    if given.device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    limit = BUDGETS[name] + GRACE
    started = time.monotonic()
    try:
        code = subprocess.run(command, env=environment, timeout=limit, check=False).returncode
        said = f"ended with exit code {code}" if code not in (0, 1) else ""
    except subprocess.TimeoutExpired:
        code, said = 1, f"ended after {limit:.0f} s"
    if said:
        say(f"{name:6}failed: the section {said}")
    if said or not file.exists():
        _note_end(file, name, said or "wrote nothing")
    say(f"{name:6}took {time.monotonic() - started:.0f} s\n")
    return code == 0


def _note_end(file: Path, name: str, said: str) -> None:
    """Add a row to the JSON of a section that did not come to its end."""
    content: dict[str, Any] = {"section": name, "rows": []}
    if file.exists():
        content = json.loads(file.read_text())
    content["rows"].append({"check": "the section itself", "outcome": f"failed: it {said}"})
    file.write_text(json.dumps(content, indent=1))


def _section(name: str, given: argparse.Namespace) -> int:
    """Run a section in this process; returns the exit code."""
    started = time.monotonic()
    if missing := _missing():
        say(f"{name:6}failed: missing {', '.join(missing)}")
        _note_end(given.output / f"{name}.json", name, f"misses {', '.join(missing)}")
        return 1
    from gpu_sections.section import Section, about
    from gpu_sections.sizes import SIZES

    from priorbench.diffusion.frozen import resolve_device

    device = resolve_device(given.device)
    size = SIZES[given.size or ("small" if device.type == "cpu" else "full")]
    known = about(given.device) | {"size": size.name}
    versions = ", ".join(f"{package} {v}" for package, v in known["versions"].items())
    say(f"{name:6}on {known['card']} ({device}), {versions}, commit {known['commit']}")
    section = Section(
        name, device, size, BUDGETS[name], given.output / f"{name}.json", known, started
    )
    section.check("the section itself", _ran, section)
    return int(any(row.failed for row in section.rows))


def _ran(section: Any) -> dict[str, Any]:
    """Run all checks of ``section``; what goes wrong between them is a row too."""
    import_module(f"gpu_sections.{section.name}").run(section)
    return {"checks": len(section.rows)}


def _missing() -> list[str]:
    """What cannot be imported, by the names of what installs it."""
    found = []
    for module, installs in NEEDED:
        try:
            import_module(module)
        except ImportError as error:
            found.append(f"{installs} ({error})")
    return found


if __name__ == "__main__":
    main()
