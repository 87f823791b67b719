"""Writes requirements.txt, for those who install with pip: every package that a run needs, at the version that uv resolves."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = """\
# Written by `make pins` from pyproject.toml. With pip 23.1 or later:
#     pip install --no-deps -r requirements.txt
#     pip install --no-deps --editable .
# --no-deps, because the list is complete and learn2learn asks for two packages that it never imports.
"""
BUILD_OPTION = '--config-settings="--build-option=build_ext"'


def main(uv: str) -> None:
    """Resolves with `uv` and writes the file."""
    subprocess.run([uv, "lock", "--quiet"], cwd=ROOT, check=True)
    options = ["--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--no-annotate", "--no-header", "--quiet"]
    exported = subprocess.run(
        [uv, "export", "--format", "requirements-txt", *options], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    lines = [line + f" {BUILD_OPTION}" if line.startswith("learn2learn==") else line for line in exported.splitlines()]
    (ROOT / "requirements.txt").write_text(HEADER + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
