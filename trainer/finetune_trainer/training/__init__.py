"""From rows and a plan to an artifact: the arithmetic, the model, the loop around it, and several devices."""
