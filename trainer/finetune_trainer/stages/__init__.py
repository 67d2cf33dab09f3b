"""The stages, one module each with a function of its name, and the frame that each of them runs in."""
