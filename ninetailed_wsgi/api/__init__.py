"""The HTTP door: a Falcon app that validates requests, calls the service and wraps its answers."""
