"""Parts of models that several tasks use."""
