"""What is measured, one case a file; each yields rows."""
