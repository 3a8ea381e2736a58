"""Pictures of what boards have as numbers."""
