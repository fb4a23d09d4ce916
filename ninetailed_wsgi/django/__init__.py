"""The Django app that brings the template tags: ``INSTALLED_APPS = [..., "ninetailed_wsgi.django"]``.

The middleware wraps the WSGI application, in ``wsgi.py``; this package is needed for templates only.
"""
