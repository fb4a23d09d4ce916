"""Stands before a package that the list of dependencies (CycloneDX) brings along and that no user of ours has.

jsonschema imports it where it is installed, which takes each process 2 seconds: it builds 38 grammars for formats that
our schemas do not use. Tests and the servers that they start find this file first, and go on as users' processes do.
"""

raise ImportError("left out of the tests: see tests/without")
