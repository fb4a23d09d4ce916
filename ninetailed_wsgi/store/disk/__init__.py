"""The store and the import queue in a folder of SQLite files."""
