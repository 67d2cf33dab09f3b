"""One module for each scheme that fsspec has a file system for, called like it. `bucket` imports the one it needs."""
