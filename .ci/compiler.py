"""Finds out whether a C extension can be built here, before minutes of downloads end in a compiler's error.

learn2learn is compiled during installation. Exit code 2 and one line where a compiler or Python's headers are missing.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

REMEDY = (
    "install them (Debian, Ubuntu: apt install build-essential python3-dev; Fedora: dnf install gcc python3-devel; "
    "macOS: xcode-select --install)"
)


def missing():
    """What is missing, in words; None where all is there."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not any(shutil.which(name) for name in (compiler, "cc", "gcc", "clang")):
        return "no C compiler was found"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        return f"{header} is missing"
    return None


if __name__ == "__main__":
    what = missing()
    if what:
        print(f"error: learn2learn is compiled during installation, but {what}; {REMEDY}", file=sys.stderr)
        sys.exit(2)
