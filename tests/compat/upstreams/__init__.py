"""The far end: a scripted server on loopback that speaks every upstream dialect as the real ones do."""
