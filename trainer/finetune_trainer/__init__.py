"""The trainer image: one program whose subcommands are the stages of a revision.

Rooms, each knowing those before it: `contract` is what whoever launches it (the operator and the local backend) shares
with it, `server` how a running stage is asked how far it is; `data` and `evaluation`, `training`, `stages`.
"""
