"""What is shown and recorded while a run trains."""
