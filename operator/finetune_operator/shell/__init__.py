"""The thin shell: the only code that talks to the API server, to pods, or to kopf. It acts on what others decide."""
