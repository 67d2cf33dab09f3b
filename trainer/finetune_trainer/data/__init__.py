"""The base model and the rows: fetched, read, checked and split.

Used by the stages prepare, fetch, publish and adapters, and by the command line.
"""
