"""What the ops' public functions check of their arguments, and the messages of what is raised."""
