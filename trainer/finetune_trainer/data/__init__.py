"""The base model and the rows: fetched, read, checked and split. Used by the stage prepare."""
