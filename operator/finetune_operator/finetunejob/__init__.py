"""What belongs to the FineTuneJob: what is observed of it, its stages, the objects that it becomes, plan and status."""
