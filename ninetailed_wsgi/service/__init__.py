"""What the API does, without HTTP: the events of a request, imports, and the answers."""
