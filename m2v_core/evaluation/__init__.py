"""How good a static model is, and what any encoder has to offer to be compared with it."""
