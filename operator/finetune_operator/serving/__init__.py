"""How vLLM is started, asked whether it answers, and let go: the one place that knows, for every kind that serves."""
