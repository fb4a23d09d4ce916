"""The forms that content is published in, each read by one module."""
