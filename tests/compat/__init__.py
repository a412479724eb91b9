"""Official SDKs as callers, every dialect as upstream, a real `assay up` between them."""
