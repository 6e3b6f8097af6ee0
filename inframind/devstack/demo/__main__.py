"""`python -m inframind.devstack.demo OUT` builds the demo packages and prints their folders."""

import sys
from pathlib import Path

from inframind.devstack.demo import build

if len(sys.argv) != 2:
    sys.exit("usage: python -m inframind.devstack.demo OUT")
for package in build(Path(sys.argv[1])):
    print(package)
