"""The store and the import queue on Redis or Valkey."""
