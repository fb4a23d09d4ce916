"""The formats of published content, each read by one module."""
