"""Guards: rules on what is said to a model and on what it says."""
