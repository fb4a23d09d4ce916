"""The template tags of ``{% load ninetailed %}``."""
