"""Files of a run's folder and what they hold; imports no torch."""
