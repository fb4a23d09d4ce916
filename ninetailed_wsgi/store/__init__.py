"""Where profiles are kept: the protocol, the diskcache store, and how names find their profile."""
