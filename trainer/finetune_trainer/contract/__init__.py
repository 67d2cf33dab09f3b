"""What trainer, operator and command line agree on: configs, reports, endings, the gate. Pydantic only."""
