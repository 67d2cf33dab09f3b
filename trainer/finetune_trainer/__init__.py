"""The trainer image: one program whose subcommands are the stages of a revision.

`config`, `outcome` and `report` are its contract with whoever launches it (the operator and the local backend import
those three and nothing else); the rest needs the training libraries.
"""
