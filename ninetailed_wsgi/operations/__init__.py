"""Metrics and logs for operators, and what every long-lived part needs: forks, threads, files."""
