"""The host site's side: the WSGI middleware and the visitor of a page."""
