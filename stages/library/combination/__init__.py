"""One model of several."""
