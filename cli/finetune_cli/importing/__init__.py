"""Other tools' configurations as FineTuneJobs: one module for each tool, and `draft` for what all of them do."""
