"""Print which scorer and reducer cannot work on which family: ``python -m autoprune.testing.cells``."""

from __future__ import annotations

import json
import sys

from autoprune.pruning.methods import describe_methods

if __name__ == "__main__":
    table = {family["name"]: family["refused"] for family in describe_methods()["families"]}
    sys.stdout.write(json.dumps(table, indent=1) + "\n")
