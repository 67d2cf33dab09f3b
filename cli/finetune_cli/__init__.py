"""`finetune`: a FineTuneJob run on this machine, by the same trainer and engine that a cluster would use.

`main` has the commands; `local` runs a job's stages as processes; `state` tells its status; `render` prints what the
operator would create instead.
"""
