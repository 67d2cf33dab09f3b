"""What pods of every kind share: template, resources, environment, placement, and the diagnosis of what went wrong."""
