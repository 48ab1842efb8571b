"""Submits chains to a peer, in the peer's environment: python -m bench.submit MODULE ROUND FIRST LAST"""

import sys
from importlib import import_module

module, round_name, first, last = sys.argv[1:]
import_module(module).submit(round_name, int(first), int(last))
