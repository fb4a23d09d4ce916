"""What may enter: JSON bodies held against the JSON Schema files."""
