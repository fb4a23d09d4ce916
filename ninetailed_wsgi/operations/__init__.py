"""What operators see besides options: metrics and logs; and what every long-lived part needs: forks, threads, files."""
