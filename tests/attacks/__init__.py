"""Attacks on the app as it runs on a public Space; `test_rules` says which test holds which rule."""
