"""Contract tests for any deployment: the language-neutral cases, sent to a running server over HTTP."""
