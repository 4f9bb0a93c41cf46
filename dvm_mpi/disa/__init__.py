"""DISA, the language: instruction table, encoding, text, images, verifier."""
