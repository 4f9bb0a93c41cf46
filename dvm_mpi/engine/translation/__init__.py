"""From instructions to native code: what `engine/translate.py` is made of."""
