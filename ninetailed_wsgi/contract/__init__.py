"""Contract tests for any deployment: the language-neutral cases, said over HTTP to a running server."""
