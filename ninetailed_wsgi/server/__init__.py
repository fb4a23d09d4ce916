"""The standalone server: the app under gunicorn or Granian."""
