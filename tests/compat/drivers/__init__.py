"""The official SDKs as callers, each behind one small driver, so that a test is written once for all."""
