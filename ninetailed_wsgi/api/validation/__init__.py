"""What may enter: reads JSON bodies, checks them against the JSON Schema files, words each refusal."""
