"""What operators see and set besides options: metrics, logs, addresses of Redis."""
