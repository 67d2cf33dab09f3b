"""The FineTuneJob as users write and read it: the pydantic models and the CRD generated from them."""
