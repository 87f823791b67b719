"""Tests of the project.

They start dozens of processes, each of which would compile for seconds all that it imports where no bytecode is kept: it is,
whatever the environment says.
"""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
