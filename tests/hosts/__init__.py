"""Sites that are run with and without the middleware, under several servers: ``make hosts``."""
