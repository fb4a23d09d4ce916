"""Everything that decides, and nothing else: no I/O, no clock, no framework."""
