"""What every kind of ours is to the shell: raw objects around one of them in, actions and a status out."""
