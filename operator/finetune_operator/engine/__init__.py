"""The second kind: a vLLM server of one base model. The same small parts as `finetunejob` has, and no stages."""
