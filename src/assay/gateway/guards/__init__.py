"""Guards: rules on what is said to a model and what it says. Where they stand in a call is assay.gateway's."""
